-- Ops that a script defines: rules in Lua, derivatives of every kind, in programs, from C files.
local pl = require "perilune"
local core = require "perilune.core"
local ffi = require "ffi"
ffi.cdef "int setenv(const char *, const char *, int); int unsetenv(const char *);"

local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance, ("%.17g is not %.17g"):format(a, b)) end
local fails = require("tests.expect").fails
local function here() return debug.getinfo(2, "l").currentline end

local x, y = pl.tensor{0.3, -0.7, 1.2}, pl.tensor{1, 2, 0.5}
local cube = pl.op{name = "cube", forward = function(a) return a*a*a end, vjp = function(g, _, a) return 3*g*a*a end}

-- All three products of one function agree with finite differences: check_grad measures slopes 2 and 3.
local function right(f, at)
  local rates = pl.check_grad(f, at)
  assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.8)
end

describe("an op from Lua functions", function()
  it("has the derivatives of its rules to second order", function()
    for k = 1, 3 do close(cube(x):item(k), x:item(k)^3, 1e-15) end
    right(function(p) return pl.sum(cube(p)*pl.sin(p)) end, x)
    local h = pl.hvp(function(p) return pl.sum(cube(p)) end)(x, y)
    for k = 1, 3 do close(h:item(k), 6*x:item(k)*y:item(k), 1e-14) end
    -- reverse over reverse
    local g = pl.grad(function(p) return pl.dot(pl.grad(function(q) return pl.sum(cube(q)) end)(p), y) end)(x)
    for k = 1, 3 do close(g:item(k), 6*x:item(k)*y:item(k), 1e-14) end
    -- forward over forward, the third derivative
    local function d(f) return function(p) local _, t = pl.jvp(f, p, pl.ones(3)) return t end end
    local third = d(d(d(cube)))(x)
    for k = 1, 3 do close(third:item(k), 6, 1e-13) end
  end)

  it("makes the rule that is missing from the other", function()
    local forward = function(a, b) return a*pl.exp(b) end
    local by_jvp = pl.op{name = "by_jvp", forward = forward, jvp = function(ta, tb, out, _, b) return ta*pl.exp(b) + tb*out end}
    local by_vjp = pl.op{name = "by_vjp", forward = forward, vjp = function(g, out, _, b) return g*pl.exp(b), g*out end}
    local both = pl.op{name = "both", forward = forward, vjp = function(g, out, _, b) return g*pl.exp(b), g*out end,
      jvp = function(ta, tb, out, _, b) return ta*pl.exp(b) + tb*out end}
    for _, op in ipairs{by_jvp, by_vjp, both} do
      right(function(p) return pl.sum(op(p.a, pl.sin(p.b))^2) end, {a = x, b = y})
      local _, t = pl.jvp(function(p) return op(p, y) end, x, pl.ones(3))
      close(t:item(2), math.exp(2), 1e-14)
    end
  end)

  it("takes several inputs of any dtype and gives several outputs", function()
    local two = pl.op{name = "two", outputs = 2, forward = function(a, b) return a*b, pl.sin(a) end,
      vjp = function(g, out, a, b)
        assert(#g == 2 and #out == 2)
        return g[1]*b + g[2]*pl.cos(a), g[1]*a
      end}
    right(function(p)
      local u, v = two(p.a, p.b)
      return pl.sum(u*u*v)
    end, {a = x, b = y})
    local by_jvp = pl.op{name = "two_jvp", outputs = 2, forward = function(a, b) return a*b, pl.sin(a) end,
      jvp = function(ta, tb, out, a, b)
        assert(#out == 2)
        return ta*b + tb*a, ta*pl.cos(a)
      end}
    right(function(p)
      local u, v = by_jvp(p.a, p.b)
      return pl.sum(u*u*v)
    end, {a = x, b = y})
    local pick = pl.op{name = "pick", forward = function(a, i) return a[i] end, shape = function(a, i) return {i[1], dtype = a.dtype} end,
      jvp = function(t, _, _, _, i) return t[i] end}
    right(function(p) return pl.sum(pick(p, pl.tensor({3, 1, 1}, {dtype = "i64"}))^3) end, x)
    local half = pl.op{forward = function(a) return a*0.5 end, vjp = function(g) return g*0.5 end}(pl.ones{2, dtype = "f32"})
    assert.are.equal("f32", half.dtype)
    assert.are.equal(6, pl.op{forward = function(a, b) return a*b end}(2, 3):item())
  end)

  it("nil and false are zero gradients", function()
    local op = pl.op{forward = function(a, b, c) return a*b + c end, vjp = function(g, _, a) return nil, g*a, false end}
    local g = pl.grad(function(p) return pl.sum(op(p, p, p)) end)(x)
    assert.are.same(x:totable(), g:totable())
  end)

  it("a wrong rule is found by check_grad", function()
    local bad = pl.op{name = "bad", forward = function(a) return a*a*a end, vjp = function(g, _, a) return 2*g*a*a end}
    fails("the gradient is wrong", pl.check_grad, function(p) return pl.sum(bad(p)) end, x)
    local worse = pl.op{name = "worse", forward = function(a) return a*a*a end, vjp = function(g, _, a) return 3*g*pl.stop_gradient(a*a) end}
    fails("the Hessian product is wrong", pl.check_grad, function(p) return pl.sum(worse(p)) end, x)
  end)

  it("says what is missing or does not fit", function()
    local none = pl.op{name = "none", forward = function(a) return a*1 end}
    fails("op none has no derivative; give vjp or jvp", pl.grad(function(p) return pl.sum(none(p)) end), x)
    fails("op none has no derivative; give vjp or jvp", pl.jvp, none, x, x)
    local total = pl.op{name = "total", forward = function(a) return pl.sum(a) end}
    fails("op total: result 1 is f64 {}; f64 {3} was expected, as the first argument is", total, x)
    local said = pl.op{name = "said", forward = function(a) return pl.sum(a) end, shape = function() return {2, 2} end}
    fails("op said: result 1 is f64 {}; f64 {2, 2} was expected, as the shape rule says", said, x)
    local steep = pl.op{name = "steep", forward = function(a) return a*1 end, vjp = function(g) return pl.sum(g) end}
    fails("the vjp of op steep: result 1 is f64 {}; f64 {3} was expected", pl.grad(function(p) return pl.sum(steep(p)) end), x)
    fails("forward returns 2 results; 1 is expected", pl.op{forward = function(a) return a, a end}, x)
    fails("forward returns 0 results", pl.op{forward = function() end, inputs = 1}, x)
    fails("f64 {3}; f32 {3} was expected", pl.op{forward = function(a) return a:to "f64" end}, x:to "f32")
    fails("lone: too many arguments: 2 instead of 1", pl.op{name = "lone", forward = function(a) return a end}, x, x)
  end)

  it("refuses bad definitions", function()
    fails("needs a table", pl.op, 1)
    fails("no option 'foo'", pl.op, {foo = 1})
    fails("forward is missing", pl.op, {name = "f"})
    fails("vjp must be a function", pl.op, {forward = print, vjp = 1})
    fails("give inputs = n", pl.op, {forward = function(...) return ... end})
    fails("there is an op sin already", pl.op, {name = "sin", forward = function(a) return a end})
    fails("letters, digits", pl.op, {name = "2x", forward = function(a) return a end})
    fails("1 to 16 outputs (not 0)", pl.op, {forward = function(a) return a end, outputs = 0})
    fails("1 to 32 inputs (not 99)", pl.op, {forward = function(a) return a end, inputs = 99})
  end)

  -- y_i = x_i^2 in a loop over memory
  local square = pl.op{name = "loop_square",
    forward = function(a)
      local out = pl.buffer(#a)
      local from, to = ffi.cast("const double *", a:pointer()), ffi.cast("double *", out:pointer())
      for i = 0, #a - 1 do to[i] = from[i]^2 end
      return out
    end,
    vjp = function(g, _, a)
      local out = pl.buffer(#a)
      local p, q, to = ffi.cast("const double *", a:pointer()), ffi.cast("const double *", g:pointer()), ffi.cast("double *", out:pointer())
      for i = 0, #a - 1 do to[i] = 2*p[i]*q[i] end
      return out
    end}

  it("may loop over memory", function()
    assert.are.same({0.3^2, 0.7^2, 1.2^2}, square(x):totable())
    local rates = pl.check_grad(function(p) return pl.sum(square(p)*y) end, x, {order = 2})
    assert.is_true(rates.gradient > 1.9)
    fails("the second derivative of op loop_square needs its vjp written in operations, but it reads values",
      pl.grad(function(p) return pl.sum(pl.grad(function(q) return pl.sum(square(q)) end)(p)) end), x)
    fails("needs its vjp written in operations, but it reads values", pl.hvp(function(p) return pl.sum(square(p)) end), x, y)
  end)

  it("runs at each step of a program", function()
    local seen = {}
    local watched = pl.op{name = "watched", forward = function(a)
      seen[#seen + 1] = a:item(1)
      return a*0.5
    end, vjp = function(g) return g*0.5 end}
    local last = pl.scan(function(s) return watched(s) end, pl.tensor{8, 1}, 3)
    assert.are.same({1, 0.125}, last:totable())
    assert.are.same({8, 4, 2}, seen)
    right(function(p) return pl.sum(pl.scan(function(s) return cube(s)*0.5 + p end, p, 4)^2) end, x*0.5)
    right(function(p) return pl.sum(pl.scan(function(s) return cube(s)*0.5 + p end, p, 6, {checkpoints = 2})^2) end, x*0.5)
    right(function(p) return pl.sum((pl.while_loop(function(s) return pl.sum(s*s):lt(40) end, function(s) return cube(s) + p end, p))) end, x)
    right(function(p) return pl.cond(pl.sum(p):gt(0), function() return pl.sum(cube(p)) end, function() return pl.sum(p) end) end, x)
    right(function(p) return pl.checkpoint(function(q) return pl.sum(cube(cube(q))) end)(p) end, x)
    local g = pl.grad(function(p) return pl.sum(pl.scan(function(s) return square(s) + p end, p, 3)) end)(x)
    local same = pl.grad(function(p) return pl.sum(pl.scan(function(s) return s*s + p end, p, 3)) end)(x)
    for k = 1, 3 do close(g:item(k), same:item(k), 1e-13) end
  end)

  it("its rules may take derivatives and run programs", function()
    local inner = pl.op{name = "inner", forward = function(a)
      return pl.grad(function(z) return pl.sum(pl.scan(function(s) return s*z end, z, 2)) end)(a)
    end, vjp = function(g, _, a) return 6*a*g end}
    for k = 1, 3 do close(inner(x):item(k), 3*x:item(k)^2, 1e-14) end
    right(function(p) return pl.sum(pl.scan(function(s) return inner(s)*0.3 end, p, 2)*p) end, x)
    local deep
    deep = pl.op{name = "deep", forward = function(a)
      return coroutine.wrap(function() return a:item(1) > 5 and a*1 or deep(a + 1) end)()
    end}
    close(deep(x):item(1), 5.3, 1e-14)
    close(coroutine.wrap(function() return deep(x) end)():item(1), 5.3, 1e-14)
    local endless
    endless = pl.op{name = "endless", forward = function(a) return endless(a) end}
    fails("more than 32 deep", endless, x)
    assert.is_false(core.recording())
  end)

  it("errors keep their message and line", function()
    local line
    local boom = pl.op{name = "boom", forward = function()
      line = here() + 1
      error "no such material"
    end, inputs = 1}
    local at = here() + 2
    local message = fails("no such material", pl.scan, function(s)
      local next_s = boom(s)
      return next_s
    end, x, 3)
    assert.is_truthy(message:find(("user_ops_spec.lua:%d: no such material"):format(line), 1, true), message)
    assert.is_truthy(message:find(("user_ops_spec.lua:%d)"):format(at), 1, true), message)
    local inside = pl.op{name = "inside", forward = function(a)
      line = here() + 1
      local s = pl.sum(a, {axis = 4})
      return s
    end}
    message = fails("there is no axis 4", inside, x)
    assert.is_truthy(message:find(("user_ops_spec.lua:%d: sum"):format(line), 1, true), message)
    fails("(error object is a table)", pl.op{forward = function(a) error{a} end}, x)
    assert.are.equal(6, pl.sum(pl.op{forward = function(a) return a*1 end}(pl.tensor{1, 2, 3})):item())
  end)

  it("arguments are stale after the call, what was made of them is not", function()
    local kept
    local keep = pl.op{forward = function(a)
      kept = {a, a:reshape(3, 1), a:detach(), a[2]}
      return a
    end}
    pl.scan(function(s) return keep(s)*2 end, x, 2)
    fails("op's call, that has ended", kept[1].totable, kept[1])
    fails("op's call, that has ended", function() return kept[1] + 1 end)
    assert.are.same({{0.6}, {-1.4}, {2.4}}, kept[2]:totable())
    assert.are.same({0.6, -1.4, 2.4}, kept[3]:totable())
    close(kept[4]:item(), -1.4, 0)
    -- a pullback made inside holds what it needs
    local pull
    pl.scan(function(s)
      return pl.op{forward = function(a)
        local _
        _, pull = pl.vjp(function(z) return z*z end, a)
        return a
      end}(s)
    end, x, 1)
    assert.are.same({0.6, -1.4, 2.4}, pull(pl.ones(3)):totable())
    pull = function() end
    collectgarbage()
    collectgarbage()
    pull()
    -- and nothing stays behind
    local function rounds(n)
      for _ = 1, n do pl.grad(function(p) return pl.sum(cube(p)) end)(x) end
      collectgarbage()
      collectgarbage()
      return core.memory().live
    end
    local before = rounds(10)
    assert.is_true(rounds(500) <= before)
  end)

  it("a gradient that would be lost is an error", function()
    fails("its gradient would be lost", pl.grad(function(p)
      local q = p*2
      return pl.sum(pl.op{forward = function(a) return a*q end, vjp = function(g) return g end}(p))
    end), x)
    fails("its gradient would be lost", pl.grad(function(p)
      return pl.sum(pl.op{forward = function(a) return a*x end, vjp = function(g) return g end}(p))
    end), x)
    local w = pl.tensor{2, 2, 2} -- what is no part of the derivative may be read, by numbers too
    right(function(p)
      return pl.sum(pl.op{forward = function(a) return a*w*a end, vjp = function(g, _, a) return 2*g*w*a*pl.tensor{1, 1, 1} end}(p)*p)
    end, x)
  end)
end)

describe("an op from a C file", function()
  local folder
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    os.execute("mkdir -p " .. folder)
    ffi.C.setenv("XDG_CACHE_HOME", folder, 1)
    ffi.C.unsetenv "CC"
  end)
  teardown(function() os.execute("rm -rf " .. folder) end)

  local function write(name, text)
    local file = assert(io.open(folder .. "/" .. name, "w"))
    file:write('#include "perilune_op.h"\n', text)
    file:close()
    return folder .. "/" .. name
  end
  local clip = [[
PL_OP(soft_clip, "b*tanh(x/b)", 2)
PL_FORWARD { return x[1]*tanh(x[0]/x[1]); }
PL_PARTIALS {
  const real t = y/x[1];
  d[0] = 1 - t*t;
  d[1] = t - x[0]/x[1]*(1 - t*t);
}
PL_SECOND {
  const real b = x[1], t = y/b, u = 1 - t*t, r = x[0]/b;
  h[0][0] = -2*t*u/b;
  h[1][0] = 2*t*u*r/b;
  h[1][1] = -2*t*u*r*r/b;
}
]]

  it("is elementwise, broadcast, of both dtypes, with second derivatives", function()
    local soft = pl.load_op(write("clip.c", clip))
    local z = pl.tensor{{0.3, -0.7, 1.2}, {2, 3, -1}}
    local v = soft(z, y)
    for i = 1, 2 do
      for j = 1, 3 do close(v:item(i, j), y:item(j)*math.tanh(z:item(i, j)/y:item(j)), 1e-15) end
    end
    right(function(p) return pl.sum(soft(p.x, p.b)^2*p.x) end, {x = z, b = y})
    right(function(p) return pl.sum(pl.scan(function(s) return soft(s*1.1, p.b) end, p.x, 5)^2) end, {x = z, b = y})
    local g = pl.grad(function(p) return pl.sum(soft(p.x, p.b)) end){x = z, b = 2.0}
    assert.are.equal("number", type(g.b))
    local single = soft(z:to "f32", 2.0)
    assert.are.equal("f32", single.dtype)
    close(single:item(2, 2), 2*math.tanh(1.5), 1e-6)
    fails("does not give its third derivative", pl.grad(function(p)
      return pl.sum(pl.hvp(function(q) return pl.sum(soft(q, y)) end)(p, y))
    end), x)
    -- one number at a time, in a program, or many: the same bits
    local many = pl.linspace(-3, 3, 1001)
    local all, one = soft(many, 1.5), pl.scan(function(s, k) return s, soft(k, 1.5) end, 0, many)
    assert.are.equal(0, one:item())
    local _, each = pl.scan(function(s, k) return s, soft(k, 1.5) end, 0, many)
    assert.are.equal(0, pl.max(pl.abs(all - each)):item())
  end)

  it("is compiled once", function()
    local path = write("clip.c", clip)
    pl.load_op(path)
    -- another process, and a compiler that is not there
    local script = folder .. "/again.lua"
    local file = assert(io.open(script, "w"))
    file:write(('local pl = require "perilune"\nprint(pl.load_op("%s")(1.0, 2.0):item())\n'):format(path))
    file:close()
    local p = assert(io.popen(("CC=/nowhere/cc XDG_CACHE_HOME=%s %s %s 2>&1"):format(folder, os.getenv "PERILUNE", script)))
    local text = p:read("*a")
    p:close()
    close(tonumber(text) or error(text), 2*math.tanh(0.5), 1e-12)
    ffi.C.setenv("CC", "/nowhere/cc", 1)
    fails("the C compiler /nowhere/cc is not found", pl.load_op, write("changed.c", clip .. "\n/* other */\n"))
    ffi.C.unsetenv "CC"
  end)

  it("says what the compiler says", function()
    fails("broken.c:4:", pl.load_op, write("broken.c", 'PL_OP(broken, "x", 1)\nPL_FORWARD {\n  return x[0] + nonsense;\n}\n'))
    fails("nonsense", pl.load_op, folder .. "/broken.c")
    fails("cannot read " .. folder .. "/absent.c", pl.load_op, folder .. "/absent.c")
    fails("needs the path of a C file", pl.load_op, 3)
    fails("there is an op exp already", pl.load_op, write("exp.c", 'PL_OP(exp, "x", 1)\nPL_FORWARD { return x[0]; }\n'))
    local plain = pl.load_op(write("plain.c", 'PL_OP(plain, "2x", 1)\nPL_FORWARD { return 2*x[0]; }\n'))
    fails("op plain has no derivative", pl.grad(function(p) return pl.sum(plain(p)) end), x)
    local first = pl.load_op(write("first.c", 'PL_OP(first, "2x", 1)\nPL_FORWARD { return 2*x[0]; }\nPL_PARTIALS { d[0] = 2; }\n'))
    assert.are.same({2, 2, 2}, pl.grad(function(p) return pl.sum(first(p)) end)(x):totable())
    fails("does not give its second derivative; add PL_SECOND", pl.hvp(function(p) return pl.sum(first(p*p)) end), x, y)
  end)

  it("may work on whole arrays", function()
    local text = [[
PL_ARRAY_OP(weighted_sum, "w_i times the sum of x_j, j <= i", 2)
PL_ARRAY_FORWARD { real s = 0; for (int64_t i = 0; i < x->count; i++) { s += x[0].data[i]; y->data[i] = x[1].data[i]*s; } }
PL_ARRAY_VJP {
  real s = 0;
  for (int64_t i = x->count; i-- > 0;) gx[0].data[i] = s += g->data[i]*x[1].data[i];
  s = 0;
  for (int64_t i = 0; i < x->count; i++) { s += x[0].data[i]; gx[1].data[i] = g->data[i]*s; }
}
PL_ARRAY_JVP {
  real s = 0, ds = 0;
  for (int64_t i = 0; i < x->count; i++) {
    s += x[0].data[i];
    ds += t[0].data[i];
    dy->data[i] = t[1].data[i]*s + x[1].data[i]*ds;
  }
}
]]
    local op = pl.load_op(write("weighted.c", text))
    local v = op(pl.tensor{1, 2, 3}, pl.tensor{1, 10, 100})
    assert.are.same({1, 30, 600}, v:totable())
    local rates = pl.check_grad(function(p) return pl.sum(op(p.x, p.w)^2) end, {x = x, w = y}, {order = 2})
    assert.is_true(rates.gradient > 1.9)
    local f = function(p) return op(p, y) end
    local _, t = pl.jvp(f, x, y)
    local _, pull = pl.vjp(f, x)
    close(pl.dot(t, x):item(), pl.dot(pull(x), y):item(), 1e-14)
    assert.are.equal("f32", op(x:to "f32", y:to "f32").dtype)
    assert.are.equal("f64", op(x:to "f32", y).dtype)
    fails("the second derivative of op weighted_sum needs its jvp written in operations, but it reads values",
      pl.hvp(function(p) return pl.sum(op(p, pl.ones(3))) end), x, y)
  end)
end)
