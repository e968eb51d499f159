-- Programs: compile, loops, branches, users' ops inside all of them; interrupted and continued.
local pl = require "perilune"
local core = require "perilune.core"
local program = core.program

local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance, ("%.17g is not %.17g"):format(a, b)) end
local function same(a, b) -- bit for bit
  assert.are.equal(a:bytes(), b:bytes())
end
local function equal_trees(a, b)
  local x, y = pl.tree.leaves(a), pl.tree.leaves(b)
  assert.are.equal(#x, #y)
  for k, leaf in ipairs(x) do
    if leaf.number then assert.are.equal(leaf.value, y[k].value) else same(leaf.value, y[k].value) end
  end
end

describe("compile", function()
  local function f(p)
    local s = pl.sin(p.x)*p.a + pl.exp(-p.x^2)
    return pl.sum(s["2:"]*s[":-2"]) + pl.mean(pl.tanh(p.w:matmul(p.x))), s*2
  end
  local P = {a = 0.7, x = pl.linspace(-1, 1, 33), w = pl.rng(1):normal(5, 33)}

  it("gives the bits of eager execution, forward and backward", function()
    local c = pl.compile(f)
    local v, s = c(P)
    local w, t = f{a = pl.tensor(P.a), x = P.x, w = P.w}
    same(v, w)
    same(s, t)
    local v1, g1, s1 = pl.value_and_grad(c)(P)
    local v2, g2, s2 = pl.value_and_grad(f)(P)
    same(v1, v2)
    same(s1, s2)
    equal_trees(g1, g2)
    equal_trees(pl.hvp(c)(P, P), pl.hvp(f)(P, P))
    local _, d1 = pl.jvp(c, P, P)
    local _, d2 = pl.jvp(f, P, P)
    same(d1, d2)
    pl.check_grad(c, P)
  end)

  it("traces once a signature, and again when a number among the upvalues changes", function()
    local count, k = 0, 2
    local c = pl.compile(function(x) count = count + 1; return pl.sum(x*k) end)
    assert.are.equal(6, c(pl.ones(3)):item())
    assert.are.equal(1, count)
    count = 0 -- an upvalue that is a number: a new trace
    assert.are.equal(6, c(pl.ones(3)):item())
    local before = count
    for _ = 1, 3 do c(pl.ones(3)) end
    k = 5
    assert.are.equal(15, c(pl.ones(3)):item())
    assert.are.equal(20, c(pl.ones(4)):item())
    assert.is_true(count > before)
  end)

  it("is traced again when a global has changed", function()
    local env = setmetatable({}, {__index = _G})
    local g = setfenv(assert(loadstring [[
      k, double = 2, function(x) return 2*x end
      return require("perilune").compile(function(x) local g = function(y) return double(y)*k end return g(x) end)
    ]]), env)()
    assert.are.equal(12, g(3):item())
    env.k = 5
    assert.are.equal(30, g(3):item())
    env.double = function(x) return x end
    assert.are.equal(15, g(3):item())
  end)

  it("takes numbers, trees, modules, and anything as arguments", function()
    local Module = {}
    Module.__index = Module
    function Module.__call(m, x) return x*m.w + m.size end
    local net = setmetatable({w = pl.ones(2), size = 7}, Module)
    local c = pl.compile(function(p, n, name) return pl.sum(p.net(p.list[1]))*n, name, {p.list[1]*2, "text"} end)
    local v, name, list = c({net = net, list = {pl.tensor{1, 2}}}, 3, "hello")
    assert.are.equal((1 + 7 + 2 + 7)*3, v:item())
    assert.are.equal("hello", name)
    assert.are.same({2, 4}, list[1]:totable())
    assert.are.equal("text", list[2])
    local _, g = pl.value_and_grad(c)({net = net, list = {pl.tensor{1, 2}}}, 3, "hello")
    assert.are.same({3, 6}, g.net.w:totable())
    assert.are.equal(Module, getmetatable(g.net))
    assert.are.equal(7, g.net.size)
  end)

  it("a tensor at two places is one variable", function()
    local t = pl.tensor{1, 2}
    local h = function(p) return pl.sum(p.a*p.b) end
    local g = pl.grad(pl.compile(h)){a = t, b = t}
    assert.are.same({2, 4}, g.a:totable())
    assert.are.same({2, 4}, g.b:totable())
  end)

  it("reading a value is an error that names the line", function()
    local line = debug.getinfo(1, "l").currentline + 3
    local ok, text = pcall(function()
      pl.compile(function(x)
        if x:item() > 0 then return x end
        return -x
      end)(pl.tensor(1))
    end)
    assert.is_false(ok)
    assert.is_truthy(text:find(("programs_spec.lua:%d: this value is not known here"):format(line), 1, true), text)
    assert.is_false(core.recording())
  end)

  it("errors at run time name the line of the op", function()
    local index = pl.tensor({1, 9}, {dtype = "i64"})
    local line = debug.getinfo(1, "l").currentline + 1
    local c = pl.compile(function(x, i) return pl.sum(x:gather(i)) end)
    local ok, text = pcall(c, pl.ones(3), index)
    assert.is_false(ok)
    assert.is_truthy(text:find("index 9 (entry 2) is out of range 1 to 3", 1, true), text)
    assert.is_truthy(text:find(("programs_spec.lua:%d"):format(line), 1, true), text)
  end)

  it("inside derivatives, loops and other compiled functions", function()
    local inner = pl.compile(function(x, y) return pl.sin(x*y) end)
    local outer = pl.compile(function(p) return pl.sum(pl.scan(function(u) return inner(u, p.k) + 0.1*u end, p.u, 4)^2) end)
    local P2 = {k = pl.tensor{0.3, 1.1}, u = pl.tensor{0.5, -0.2}}
    pl.check_grad(outer, P2)
    close(pl.grad(function(x) return pl.grad(pl.compile(function(y) return y^3*x end))(x) end)(2.0), 36, 1e-12)
  end)

  it("minimize takes compiled functions", function()
    local rosenbrock = function(p) return pl.sum(100*(p["2:"] - p[":-2"]^2)^2 + (1 - p[":-2"])^2) end
    local a = pl.minimize(rosenbrock, pl.full({10}, -1.2))
    local b = pl.minimize(rosenbrock, pl.full({10}, -1.2), {compile = true})
    same(a.x, b.x)
    assert.are.equal(a.evaluations, b.evaluations)
  end)

  it("shows its program", function()
    local text = pl.compile(f):text(P)
    for _, word in ipairs{"fused", "gemm", "flop", "programs_spec.lua"} do assert.is_truthy(text:find(word, 1, true), text) end
  end)

  it("keeps large views, transposes and broadcasts in place, with the bits of eager", function()
    local g = function(p)
      local u = p.u
      local lap = u("3:", "2:-2") + u(":-3", "2:-2") + u("2:-2", "3:") + u("2:-2", ":-3") - 4*u("2:-2", "2:-2")
      local w = pl.pad(p.k*lap, 1) + u*p.row + pl.transpose(u)*0.5
      return pl.sum(pl.tanh(w)*w:flip(1)) + pl.sum(w("1:-1:2", 3)^2)
    end
    for _, n in ipairs{3, 17, 64, 130} do
      local Q = {u = pl.rng(2):normal(n, n), k = pl.rng(3):uniform(n - 2, n - 2), row = pl.rng(4):normal(n)}
      local v1, g1 = pl.value_and_grad(pl.compile(g))(Q)
      local v2, g2 = pl.value_and_grad(g)(Q)
      same(v1, v2)
      equal_trees(g1, g2)
    end
  end)
end)

describe("loops", function()
  it("scan over trees, with several outputs, forward mode and nesting", function()
    local f = function(p)
      local s, a, b = pl.scan(function(s, x)
        local u = pl.tanh(s.u*p.w + x.f)
        return {u = u, n = s.n + x.g}, pl.sum(u), {twice = u*2}
      end, {u = p.u, n = 0}, {f = p.f, g = pl.arange(1, 6)})
      return pl.sum(s.u^2) + s.n*pl.sum(a) + pl.sum(b.twice^2)
    end
    local P = {u = pl.tensor{0.1, 0.2}, w = 0.8, f = pl.rng(1):normal(6, 2)}
    pl.check_grad(f, P)
    local _, t = pl.jvp(f, P, P)
    close(t:item(), pl.dot(pl.grad(f)(P), P):item(), 1e-12)
    local s, a, b = pl.scan(function(u, k) return u*2, k, u end, pl.tensor{1, 1}, 3)
    assert.are.same({8, 8}, s:totable())
    assert.are.same({1, 2, 3}, a:totable())
    assert.are.same({{1, 1}, {2, 2}, {4, 4}}, b:totable())
  end)

  it("recomputes by the optimal schedule, to the same bits", function()
    local P = {a = 0.7, b = pl.tensor{1, 2, 3}, u = pl.tensor{0.1, 0.2, 0.3}, x = pl.linspace(0, 1, 57)}
    local function f(o)
      return function(p)
        local u, y = pl.scan(function(u, x) u = pl.tanh(p.a*u + x*p.b); return u, pl.sum(u) end, p.u, p.x, o)
        return pl.sum(u^2) + pl.sum(y*y)
      end
    end
    local v, g = pl.value_and_grad(f())(P)
    for _, o in ipairs{{checkpoints = 1}, {checkpoints = 2}, {checkpoints = 3}, {checkpoints = 7}, {checkpoints = 56}, {memory = "300B"}, {memory = 100}} do
      local v2, g2 = pl.value_and_grad(f(o))(P)
      same(v, v2)
      equal_trees(g, g2)
      local v3, g3 = pl.value_and_grad(pl.compile(f(o)))(P)
      same(v, v3)
      equal_trees(g, g3)
    end
    pl.check_grad(f{checkpoints = 4}, P)
    local ok, text = pcall(function() return pl.grad(function(p) return pl.sum(pl.grad(f{checkpoints = 4})(p).b^2) end)(P) end)
    assert.is_false(ok)
    assert.is_truthy(text:find("forward over reverse", 1, true), text)
  end)

  it("recomputes in forward over reverse too", function()
    local P = {a = 0.7, b = pl.tensor{1, 2, 3}, u = pl.tensor{0.1, 0.2, 0.3}, x = pl.linspace(0, 1, 11)}
    local T = {a = 0.3, b = pl.tensor{0.5, -1, 2}, u = pl.tensor{1, 0, -1}, x = pl.cos(pl.linspace(0, 3, 11))}
    local function f(o)
      return function(p)
        local u, y = pl.scan(function(s, x)
          local v = pl.tanh(p.a*s.u + x*p.b)
          return {k = s.k + 1, u = v, w = s.w}, pl.sum(v*s.w)*x -- an integer, what moves, and what stays
        end, {u = p.u, k = pl.tensor({1}, {dtype = "i64"}), w = pl.tensor{1, 2, 3}}, p.x, o)
        return pl.sum(u.u^2) + pl.sum(y*y)
      end
    end
    local function loop(p)
      return pl.sum((pl.while_loop(function(s) return pl.sum(s^2):lt(40) end, function(s) return s*p.b + p.a end, p.b))^2)
    end
    local function agree(a, b)
      for k, x in pairs(a) do
        local u, v = pl.tensor(x), pl.tensor(b[k])
        assert.is_true(pl.max(pl.abs(u - v)):item() < 1e-12*(1 + pl.max(pl.abs(u)):item()), tostring(k))
      end
    end
    local _, want = pl.jvp(pl.grad(f()), P, T)
    agree(want, pl.hvp(f())(P, T))
    for _, o in ipairs{{checkpoints = 1}, {checkpoints = 3}, {memory = 100}, {checkpoints = 3, disk = "/tmp"}} do
      local _, d = pl.jvp(pl.grad(f(o)), P, T)
      agree(want, d)
      agree(want, pl.hvp(f(o))(P, T))
      _, d = pl.jvp(pl.grad(pl.compile(f(o))), P, T)
      agree(want, d)
    end
    local partly = {a = 0.3} -- one tangent only
    local _, d = pl.jvp(function(q) return pl.grad(f{checkpoints = 3})({a = q.a, b = P.b, u = P.u, x = P.x}) end, {a = P.a}, partly)
    local _, e = pl.jvp(function(q) return pl.grad(f())({a = q.a, b = P.b, u = P.u, x = P.x}) end, {a = P.a}, partly)
    agree(e, d)
    local Q, V = {a = 0.2, b = pl.tensor{1.2, 1.3, 0.9}}, {a = 1, b = pl.tensor{1, -1, 0.5}}
    local _, second = pl.jvp(pl.grad(loop), Q, V)
    agree(pl.hvp(loop)(Q, V), second)
  end)

  -- The least number of forward steps to reverse n with s checkpoints (the first of them the start), by dynamic programming.
  it("takes the fewest forward steps there are", function()
    local memo = {}
    local function least(n, s)
      if n == 1 then return 0 end
      if s == 1 then return n*(n - 1)/2 end
      local key = n*100 + s
      if not memo[key] then
        local best = math.huge
        for m = 1, n - 1 do best = math.min(best, m + least(n - m, s - 1) + least(m, s)) end
        memo[key] = best
      end
      return memo[key]
    end
    for _, case in ipairs{{10, 3}, {23, 4}, {40, 5}, {31, 2}, {50, 10}, {12, 12}} do
      local n, s = unpack(case)
      local plan = pl.scan:plan(function(u) return u*2 end, pl.ones(2), n, {checkpoints = s})
      assert.are.equal(1 + (s < n and least(n, s) or 0)/n, plan.recomputation, ("%d steps, %d checkpoints"):format(n, s))
    end
  end)

  it("while, cond and checkpoint", function()
    local w = function(p)
      local s, n = pl.while_loop(function(s) return pl.sum(s^2):lt(100) end, function(s) return s*p.a + p.b end, p.b)
      return pl.sum(s^2) + 0*n
    end
    pl.check_grad(w, {a = 1.3, b = pl.tensor{1.0, 2}})
    local s, n = pl.while_loop(function(v) return v:lt(100) end, function(v) return v*2 end, 1)
    assert.are.same({128, 7}, {s:item(), n:item()})
    local ok, text = pcall(pl.while_loop, function(v) return v:gt(0) end, function(v) return v + 1 end, 1, {iterations = 10})
    assert.is_truthy(not ok and text:find("after 10 steps", 1, true), text)
    for _, sign in ipairs{1, -1} do
      pl.check_grad(function(p)
        return pl.sum(pl.cond((pl.sum(p.b)*sign):gt(0), function() return p.b^3*p.a end, function() return pl.exp(p.b) end))
      end, {a = 1.3, b = pl.tensor{1.0, 2}})
    end
    local g = pl.grad(function(x) return pl.cond(x:gt(0), function() return pl.sqrt(x) end, function() return x*3 end) end)
    assert.are.same({3, 0.25}, {g(-1.0), g(4.0)})
    local layer = pl.checkpoint(function(x, y) return pl.tanh(x*y):matmul(y) end)
    pl.check_grad(function(p) return pl.sum(layer(p.a, p.b)^2) end, {a = pl.eye(3)*0.3 + 0.1, b = pl.eye(3) - 0.2})
  end)

  it("a factor made before the loop serves every step, forward and back", function()
    local sparse = pl.sparse
    local D = sparse.diags({-1, 1}, {0, 1}, 8)
    local function f(p)
      local A = (sparse.eye(8) + 0.1*D:gram(p.k)):factor()
      local _, y = pl.scan(function(u, x) u = A:solve(u + x*p.q); return u, u[1] end, pl.zeros(8), pl.arange(1, 5))
      return pl.sum(y^2)
    end
    pl.check_grad(f, {k = pl.linspace(1, 2, 8), q = pl.ones(8)})
    pl.check_grad(pl.compile(f), {k = pl.linspace(1, 2, 8), q = pl.ones(8)})
  end)

  it("bad steps", function()
    local function fails(text, ...)
      local ok, message = pcall(...)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), message)
      assert.is_false(core.recording())
    end
    fails("{3} and returns one of f64 {6}", pl.scan, function(u) return pl.concat{u, u} end, pl.ones(3), 3)
    fails("returns nothing", pl.scan, function() end, pl.ones(3), 3)
    fails("no number of steps", pl.scan, function(u) return u end, pl.ones(3), 2.5)
    fails("'steps'", pl.scan, function(u) return u end, pl.ones(3), 2, {steps = 1})
    fails("returns f64 {4}, the other f64 {3}", pl.cond, pl.tensor(1):gt(0), function() return pl.ones(4) end, function() return pl.ones(3) end)
    fails("not known here", pl.scan, function(u) print(u) return u end, pl.ones(3), 3)
    fails("returns one of f32", pl.while_loop, function(s) return s:lt(3) end, function(s) return s:to "f32" end, 1)
  end)
end)

describe("newton", function()
  it("solves, and differentiates to second order", function()
    local n = 20
    local h = 1/n
    local x = pl.linspace(0, 1, n + 1)["2:-2"]
    local function f(p)
      local u = pl.newton(function(u)
        local v = pl.pad(u, 1)
        local flux = (1 + p.a*((v["2:"] + v[":-2"])/2)^2)*pl.diff(v)/h
        return -pl.diff(flux)/h - p.f
      end, pl.zeros(n - 1))
      return pl.sum(u^2)
    end
    local rates = pl.check_grad(f, {a = 2.0, f = 10*pl.sin(3*x)})
    assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
    close(pl.newton(function(u) return u^2 - 2 end, 1.0):item(), math.sqrt(2), 1e-15)
    local u = pl.newton(function(u) return {a = u.a^2 - u.b[1], b = u.b - pl.tensor{4, 5}} end, {a = 1.0, b = pl.ones(2)})
    close(u.a:item(), 2, 1e-14)
    close(u.b:item(2), 5, 1e-14)
  end)

  it("says why it fails", function()
    local function fails(text, ...)
      local ok, message = pcall(...)
      assert.is_true(not ok and message:find(text, 1, true) ~= nil, message)
    end
    fails("did not converge (iteration 3)", pl.newton, function(u) return pl.exp(u) - 1e9 end, pl.tensor{0.0}, {iterations = 3})
    fails("no step along the Newton direction", pl.newton, function(u) return u^2 + 1 end, pl.tensor{0.5})
    fails("2 equations for 3 unknowns", pl.newton, function(u) return u["2:"] end, pl.ones(3))
    fails("not finite", pl.newton, function(u) return pl.log(u) end, pl.tensor{-1.0})
    fails("'tolerance'", pl.newton, function(u) return u end, pl.ones(3), {tolerance = 1})
  end)
end)

-- The hard case: an op defined in Lua, in the residual of a Newton solve, at each step of a scan, in a compiled loss.
describe("a Lua op inside Newton inside a scan inside a compiled loss", function()
  local calls, stop_at = 0, nil
  local function spring(x, k) return x + k*x*x*x end
  local op = pl.op{
    name = "spring",
    forward = function(x, k)
      calls = calls + 1
      if calls == stop_at then program.interrupt() end
      return spring(x, k)
    end,
    vjp = function(g, _, x, k) return g*(1 + 3*k*x*x), g*x*x*x end,
    jvp = function(dx, dk, _, x, k) return dx*(1 + 3*k*x*x) + dk*x*x*x end,
  }
  local function loss_with(force)
    return function(p)
      local u, trace = pl.scan(function(u, load)
        u = pl.newton(function(w) return force(w, p.k) + 0.2*(w - pl.flip(w)) - load*p.q - 0.3*u end, u)
        return u, pl.sum(u)
      end, pl.zeros(3), pl.linspace(0.5, 2, 4))
      return pl.sum(u^2) + pl.sum(trace^2)
    end
  end
  local P = {k = pl.tensor{0.5, 0.8, 0.3}, q = pl.tensor{1, 2, -1}}
  local V = {k = pl.tensor{1, -2, 0.5}, q = pl.tensor{0.3, 1, 1}}
  local loss = pl.compile(loss_with(op))
  local plain = loss_with(spring)

  it("has the right gradient and Hessian product", function()
    local v, g = pl.value_and_grad(loss)(P)
    local w, h = pl.value_and_grad(plain)(P)
    close(v:item(), w:item(), 1e-12)
    for _, name in ipairs{"k", "q"} do assert.is_true(pl.max(pl.abs(g[name] - h[name])):item() < 1e-11) end
    local hv, hw = pl.hvp(loss)(P, V), pl.hvp(plain)(P, V)
    for _, name in ipairs{"k", "q"} do assert.is_true(pl.max(pl.abs(hv[name] - hw[name])):item() < 1e-10) end
    local rates = pl.check_grad(loss, P)
    assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.8)
  end)

  it("stops where Ctrl-C finds it, and goes on to the same bits", function()
    local gradient = pl.value_and_grad(loss)
    local v, g = gradient(P)
    calls = 0
    gradient(P)
    local total = calls
    assert.is_true(total > 20)
    for _, at in ipairs{1, 2, math.floor(total/2), total - 1, total} do
      calls, stop_at = 0, at
      local ok, text = pcall(gradient, P)
      stop_at = nil
      assert.is_false(ok)
      assert.is_truthy(text:find("interrupted!", 1, true), text)
      assert.is_truthy(text:find("pl.resume()", 1, true), text)
      assert.are.equal(2, (pl.ones(2) + 1):item(1)) -- the session is usable meanwhile
      local v2, g2 = pl.resume()
      same(v, v2)
      equal_trees(g, g2)
    end
    local ok, text = pcall(pl.resume)
    assert.is_true(not ok and text:find("nothing to resume", 1, true) ~= nil)
  end)

  it("stops more than once", function()
    local v = loss(P)
    calls, stop_at = 0, 5
    assert.is_false((pcall(loss, P)))
    for k = 1, 3 do
      calls, stop_at = 0, 4 + k
      assert.is_false((pcall(pl.resume)))
    end
    stop_at = nil
    same(v, (pl.resume()))
  end)

  it("a scan at top level and a minimization go on too", function()
    local step = function(u, k) return op(u*0.5 + k, u) end
    local u = pl.scan(step, pl.ones(2), 10)
    calls, stop_at = 0, 7
    assert.is_false((pcall(pl.scan, step, pl.ones(2), 10)))
    stop_at = nil
    same(u, (pl.resume()))
    local f = function(p) return pl.sum((op(p, p*0 + 0.1) - 1)^2) end
    for _, options in ipairs{{}, {compile = true}, {method = {{"adam", iterations = 2}, {"lbfgs"}}}} do
      local r = pl.minimize(f, pl.zeros(3), options)
      calls, stop_at = 0, 6
      assert.is_false((pcall(pl.minimize, f, pl.zeros(3), options)))
      stop_at = nil
      local again = pl.resume()
      same(r.x, again.x)
      assert.are.equal(r.evaluations, again.evaluations)
    end
  end)

  it("errors in the op stop the program at the op's line", function()
    local before = program.suspended()
    local bad = pl.op{name = "bad", forward = function(x) error("no such spring", 0) return x end}
    local c = pl.compile(function(p) return pl.sum(pl.scan(function(u) return bad(u) end, p, 3)) end)
    local ok, text = pcall(c, pl.ones(2))
    assert.is_true(not ok and text:find("no such spring", 1, true) ~= nil, text)
    assert.are.equal(before, program.suspended())
  end)
end)
