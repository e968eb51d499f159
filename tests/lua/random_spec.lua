-- Random numbers inside traced functions: what the same Lua code draws without tracing, drawn anew in each call and step, and
-- the same again wherever something is computed again.
local pl = require "perilune"
local core = require "perilune.core"

local function same(a, b) -- bit for bit
  assert.are.equal(a:bytes(), b:bytes())
end
local function differ(a, b) assert.are_not.equal(a:bytes(), b:bytes()) end
local fails = require("tests.expect").fails

describe("random numbers in a compiled function", function()
  local x = pl.tensor{1, 2, 3}

  it("are those of the function itself, new in each call", function()
    local function f(r)
      return function(v)
        local u, w, k = r:uniform(3, {lo = -1, hi = 2}), r:normal(3), r:integers(-4, 9, 3)
        return pl.sum(v*u + w) + pl.sum(k*v), u, w, k, r:normal()*v
      end
    end
    local a, b = pl.rng(7), pl.rng(7)
    local c, e = pl.compile(f(a)), f(b)
    a:normal(5)
    b:normal(5)
    local last
    for _ = 1, 3 do
      local p, q = {c(x)}, {e(x)}
      for k = 1, 5 do same(p[k], q[k]) end
      if last then differ(last, p[3]) end
      last = p[3]
      p, q = {pl.value_and_grad(c)(x)}, {pl.value_and_grad(e)(x)}
      assert.are.equal(6, #p)
      for k = 1, 6 do same(p[k], q[k]) end
      differ(last, p[4])
      assert.are.equal(b.position, a.position)
      same(a:uniform(2), b:uniform(2)) -- and what is drawn between calls
    end
    local d, D = pl.jvp(c, x, x), pl.jvp(e, x, x)
    same(d, D)
    same(pl.hvp(c)(x, x), pl.hvp(e)(x, x))
    assert.are.equal(b.position, a.position)
  end)

  it("come from one program, whatever stream the function has", function()
    local count, stream = 0, pl.rng(1)
    local c = pl.compile(function(v) count = count + 1; return v + stream:normal(3) end)
    same(c(x), x + pl.rng(1):normal(3))
    same(c(x), x + pl.rng(1):normal(6)["4:"])
    local before = count
    local program = c:program(x)
    c(x)
    assert.are.equal(before, count)
    stream = pl.rng(9) -- seen, and traced again to the same program
    same(c(x), x + pl.rng(9):normal(3))
    assert.is_true(count > before)
    assert.is_true(program == c:program(x))
  end)

  it("begin anew with a stream that is made inside", function()
    local f = function(v) return pl.sum(pl.exp(v*pl.rng(5):normal(3))), pl.rng(5):split(2)[2]:uniform(2) end
    local c = pl.compile(f)
    local a, s = c(x)
    local b, t = f(x)
    same(a, b)
    same(s, t)
    same(c(x), a)
    pl.check_grad(c, x)
    pl.check_grad(f, x)
  end)

  it("follow split, functions in functions, trees that hold a stream, and branches", function()
    local Noise = {}
    Noise.__index = Noise
    local function f(r)
      local inner = pl.compile(function(v) return v*r:normal(3) end)
      return function(p)
        local k = r:split(2)
        local y = inner(p.x) + inner(p.x)*k[1]:normal(3)
        y = y + pl.cond(pl.sum(p.x):gt(0), function() return p.r:normal(3) end, function() return p.r:uniform(3) end)
        y = y + pl.checkpoint(function(v) return v*p.r:normal(3) end)(p.x)
        return y + pl.constant(function() return pl.ones(3) end), k[2]:integers(1, 1000, 4)
      end
    end
    local a, b = pl.rng(2), pl.rng(2)
    local c, e = pl.compile(f(a)), f(b)
    local last
    for _ = 1, 3 do
      local y, k = c(setmetatable({x = x, r = a}, Noise))
      local z, l = e(setmetatable({x = x, r = b}, Noise))
      same(y, z)
      same(k, l)
      assert.are.equal(b.position, a.position)
      if last then differ(last, k) end
      last = k
    end
  end)
end)

describe("random numbers in a loop", function()
  -- a chain with noise in its state, in an inner loop, and in what it puts out; p: {k, s}
  local function loops(r, p, options)
    local state, kept = pl.scan(function(s, i)
      local w = r:normal(4)
      local t = pl.scan(function(t) return pl.sin(t)*p.k + r:uniform(4)*p.s end, s, 3, options)
      return pl.tanh(t + p.s*w*i), w*r:normal()
    end, pl.zeros(4), 7, options)
    return pl.sum(state^2) + r:normal()*pl.sum(kept), kept
  end
  local function plain(r, p)
    local s, list = pl.zeros(4), {}
    for i = 1, 7 do
      local w, t = r:normal(4), s
      for _ = 1, 3 do t = pl.sin(t)*p.k + r:uniform(4)*p.s end
      s = pl.tanh(t + p.s*w*i)
      list[i] = w*r:normal()
    end
    local kept = pl.stack(list)
    return pl.sum(s^2) + r:normal()*pl.sum(kept), kept
  end
  local P = {k = 0.8, s = pl.tensor{0.3, -0.2, 0.5, 0.1}}

  it("are those of the same Lua loop: step after step", function()
    local a, b, d = pl.rng(11), pl.rng(11), pl.rng(11)
    local c = pl.compile(function(p) return loops(d, p) end)
    for _ = 1, 2 do
      local v, kept = loops(a, P)
      local w, list = plain(b, P)
      local u, third = c(P)
      same(v, w)
      same(kept, list)
      same(v, u)
      same(kept, third)
      for i = 2, 7 do differ(kept[i - 1], kept[i]) end
      assert.are.equal(b.position, a.position)
      assert.are.equal(b.position, d.position)
    end
  end)

  it("are drawn again the same by every gradient", function()
    local function gradient(options, compiled)
      local r = pl.rng(4)
      local f = function(p) return loops(r, p, options) end
      local g = pl.grad(compiled and pl.compile(f) or f)
      return {g(P), g(P)}
    end
    local r = pl.rng(4)
    local eager = pl.grad(function(p) return plain(r, p) end)
    local want = gradient()
    for k = 1, 2 do
      local e = eager(P)
      assert.is_true(math.abs(want[k].k - e.k) < 1e-13*(1 + math.abs(e.k)))
      assert.is_true(pl.max(pl.abs(want[k].s - e.s)):item() < 1e-13)
    end
    assert.are_not.equal(want[1].k, want[2].k)
    for _, options in ipairs{{checkpoints = 1}, {checkpoints = 2}, {memory = 100}} do
      for _, compiled in ipairs{false, true} do
        local got = gradient(options, compiled)
        for k = 1, 2 do
          assert.are.equal(want[k].k, got[k].k)
          same(want[k].s, got[k].s)
        end
      end
    end
    pl.check_grad(function(p) return (loops(pl.rng(6), p)) end, P)
    pl.check_grad(pl.compile(function(p) return (loops(pl.rng(6), p)) end), P)
  end)

  it("follow xs, begin anew with a stream made in the step, and differ for streams split off in it", function()
    local function step(r) return function(s, x)
      local own = r:split(1)[1]
      return s + x*own:normal(2), own:normal(2) + x, pl.rng(3):normal(2)
    end end
    local xs = pl.linspace(1, 2, 5)
    local a, b = pl.rng(8), pl.rng(8)
    local s, y, fixed = pl.scan(step(a), pl.zeros(2), xs)
    local t, f = pl.zeros(2), step(b)
    for i = 1, 5 do
      local z, w
      t, z, w = f(t, xs[i])
      same(y[i], z)
      same(fixed[i], w)
      same(w, pl.rng(3):normal(2))
    end
    same(s, t)
  end)

  it("leave the stream where it stood when the loop is only planned", function()
    local r = pl.rng(1)
    pl.scan:plan(function(s) return s + r:normal() end, 0, 10)
    assert.are.equal(0, r.position)
  end)

  it("are those of a Lua loop in while_loop, which reserves what its limit allows", function()
    local function f(r, p)
      local s, n = pl.while_loop(function(s) return s:lt(4) end, function(s) return s + r:uniform()*p end, 0.0, {iterations = 50})
      return s*r:normal(), n
    end
    local function plain_while(r, p)
      local s, n = pl.tensor(0.0), 0
      while s:item() < 4 do s, n = s + r:uniform()*p, n + 1 end
      return s, n
    end
    local a, b, d = pl.rng(3), pl.rng(3), pl.rng(3)
    local c = pl.compile(function(p) return f(d, p) end)
    for _ = 1, 2 do
      local start = a.position
      local v, n = f(a, pl.tensor(0.7))
      local w, m = c(pl.tensor(0.7))
      same(v, w)
      same(n, m)
      assert.are.equal(start + 51, a.position)
      assert.are.equal(a.position, d.position)
    end
    local s, n = plain_while(b, pl.tensor(0.7))
    local first, m = f(pl.rng(3), pl.tensor(0.7))
    assert.are.equal(n, m:item())
    local noise = pl.rng(3)
    noise:uniform(50)
    same(first, s*noise:normal())
    pl.check_grad(function(p) -- the number of steps does not depend on p
      local r = pl.rng(3)
      local x = pl.while_loop(function(x) return x.t:lt(3) end, function(x) return {t = x.t + r:uniform(), s = pl.sin(x.s*p + r:normal(2))} end,
        {t = 0.0, s = pl.ones(2)})
      return pl.sum(x.s)
    end, 0.7)
    -- the condition draws: alone, and with the step; a random number of steps with the mean 1/0.2
    local r, total = pl.rng(1), 0
    for _ = 1, 200 do
      local _, k = pl.while_loop(function() return r:uniform():lt(0.8) end, function(x) return x + 1 end, 0.0)
      total = total + k:item()
    end
    assert.is_true(math.abs(total/200 - 4) < 1, total/200)
    local x, k = pl.while_loop(function(x) return (x + r:uniform()):lt(30) end, function(x) return x + r:uniform() end, 0.0)
    assert.is_true(x:item() > 29 and k:item() > 40 and k:item() < 80)
  end)
end)

describe("random numbers in map", function()
  it("are each entry's own, those of a loop over the entries", function()
    local function f(r) return function(x)
      local s = pl.scan(function(s) return s*0.5 + r:normal(2)*x end, pl.zeros(2), 3)
      return s, r:uniform(2, 3), r:integers(1, 1000), pl.sum(pl.map(function(y) return y*r:normal() end, pl.ones(4)))
    end end
    local xs = pl.linspace(0, 1, 5)
    local a, b, d = pl.rng(3), pl.rng(3), pl.rng(3)
    local all, loop = {pl.map(f(a), xs)}, f(b)
    local compiled = {pl.compile(function(x) return pl.map(f(d), x) end)(xs)}
    for i = 1, 5 do
      local one = {loop(xs[i])}
      for k = 1, 4 do
        same(all[k][i], one[k])
        same(compiled[k][i], one[k])
      end
    end
    assert.are.equal(b.position, a.position)
    assert.are.equal(b.position, d.position)
    pl.check_grad(function(x) return pl.sum(pl.map(f(pl.rng(2)), x)^2) end, xs)
  end)
end)

describe("streams", function()
  it("have the right moments, and independent steps, calls and children", function()
    local r, n = pl.rng(1), 20000
    local c = pl.compile(function() return r:normal(n) end)
    local a, b = c(), c()
    local _, w = pl.scan(function(s) return s, r:normal(n) end, 0.0, 2)
    local k = r:split(2)
    local list = {a, b, w[1], w[2], k[1]:normal(n), k[2]:normal(n), pl.map(function() return r:normal() end, pl.zeros(n))}
    for i, x in ipairs(list) do
      assert.is_true(math.abs(pl.mean(x):item()) < 4/math.sqrt(n))
      assert.is_true(math.abs(pl.mean(x^2):item() - 1) < 4*math.sqrt(2/n))
      assert.is_true(math.abs(pl.mean(x^4):item() - 3) < 4*math.sqrt(96/n))
      for j = 1, i - 1 do assert.is_true(math.abs(pl.mean(x*list[j]):item()) < 4/math.sqrt(n), i .. " and " .. j) end
    end
  end)

  it("do not depend on the number of threads", function()
    local function run()
      local r = pl.rng(5)
      local c = pl.compile(function(x) return x + r:normal(50000) end)
      c(pl.zeros(50000))
      return c(pl.zeros(50000)), pl.map(function(x) return r:normal(300)*x end, pl.ones(200))
    end
    core.threads(1)
    local a, b = run()
    core.threads(2)
    local c, d = run()
    core.threads(0)
    same(a, c)
    same(b, d)
  end)

  it("fail clearly", function()
    local r = pl.rng(1)
    fails("needs a random stream", r.normal, 3)
    fails("no number of streams", r.split, r, -1)
    fails("no option 'mean'", r.normal, r, 3, {mean = 2})
    fails("is empty", r.uniform, r, 3, {lo = 1, hi = 0})
    fails("is empty", pl.compile(function() return r:uniform(3, {lo = 1, hi = 0}) end))
    fails("whole numbers", r.integers, r, 1, 1/0, 3)
    fails("has a userdata at r", pl.grad(function(p) return p.x end), {x = 1, r = r})
    local kept
    pl.compile(function(x) kept = r:split(1)[1]; return x end)(1)
    fails("split off inside a traced function that has ended", kept.normal, kept, 2)
    fails("boom", pl.compile(function() r:normal(3); error "boom" end))
    same(pl.rng(2):normal(3), pl.compile(function() return pl.rng(2):normal(3) end)()) -- the failed trace left nothing open
    r = pl.rng(1)
    fails("boom", pl.scan, function() r:normal(3); error "boom" end, 0, 3)
    assert.are.equal(0, r.position)
  end)
end)
