-- Nonlinear solves: solutions, derivatives to second order, options, reports, errors.
local pl = require "perilune"
local now = dofile "bench/clock.lua"
local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance, ("%.17g, not %.17g"):format(a, b)) end
local fails = require("tests.expect").fails
local function largest(x) return pl.max(pl.abs(x)):item() end
local function only(...) return (...) end

-- Bratu's problem u'' + p exp(u) = 0, u(0) = u(1) = 0
local n = 40
local function bratu(p)
  return function(u)
    local v = pl.pad(u, 1)
    return -pl.diff(pl.diff(v))*n^2 - p*pl.exp(u)
  end
end

describe("newton", function()
  it("solves Bratu's problem in every way, to the same solution and derivatives", function()
    -- exact: u = -2 log(cosh((x - 1/2) t/2)/cosh(t/4)), t = sqrt(2 p) cosh(t/4); p = 1: t = 1.5171645990507543
    local exact = 2*math.log(math.cosh(1.5171645990507543/4))
    local function solve(options) return function(p) return pl.newton(bratu(p), pl.zeros(n - 1), options)[n/2] end end
    local ways = {{}, {line_search = "none"}, {line_search = "dogleg"}, {line_search = "pseudo_transient"}, {jacobian = "krylov"},
      {jacobian = "krylov", line_search = "pseudo_transient"}, {step_limit = 0.05}, {bounds = {0, 1}}, {check = false}}
    local reference = pl.grad(solve{})(1.0)
    for _, options in ipairs(ways) do
      close(solve(options)(pl.tensor(1.0)):item(), exact, 2e-4)
      close(pl.grad(solve(options))(1.0), reference, 1e-9)
      local _, t = pl.jvp(solve(options), 1.0, 1.0)
      close(t:item(), reference, 1e-9)
    end
    for k = 1, 6, 4 do
      local rates = pl.check_grad(function(p) return solve(ways[k])(p)^2 end, 1.0)
      assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
    end
  end)

  it("takes a given Jacobian, and finds a wrong one", function()
    local b = pl.tensor{1, 2, 3}
    local function f(u) return u^3 + u - b end
    local function dense(u) return pl.diag(3*u^2 + 1) end
    local function sparse(u) return pl.sparse.diags({3*u^2 + 1}, {0}, 3) end
    local plain = only(pl.newton(f, pl.zeros(3)))
    for _, j in ipairs{dense, sparse} do
      assert.is_true(largest(pl.newton(f, pl.zeros(3), {jacobian = j}) - plain) < 1e-14)
      local rates = pl.check_grad(function(p)
        local u = pl.newton(function(u) return u^3 + p*u - b end, pl.zeros(3), {jacobian = function(u)
          local d = 3*u^2 + p
          return j == dense and pl.diag(d) or pl.sparse.diags({d}, {0}, 3)
        end})
        return pl.sum(u^2)
      end, pl.tensor{1, 2, 1.5})
      assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
    end
    fails("not the residual's derivative", pl.newton, f, pl.zeros(3), {jacobian = function(u) return pl.diag(3*u^2 + 2) end})
    fails("its row 2", pl.newton, f, pl.ones(3), {jacobian = function(u) return pl.diag(3*u^2 + 1 + pl.tensor{0, 1e-4, 0}) end})
    fails("has shape {3}", pl.newton, f, pl.zeros(3), {jacobian = function(u) return 3*u^2 + 1 end})
    fails("another matrix", pl.newton, f, pl.zeros(3), {jacobian = function() return pl.sparse.diags({1}, {0}, 4) end})
    fails("returns a sparse matrix or a tensor", pl.newton, f, pl.zeros(3), {jacobian = function() end})
    fails("or \"krylov\"", pl.newton, f, pl.zeros(3), {jacobian = "lu"})
  end)

  it("works on trees, with bounds and fixed places", function()
    local function f(u) return {a = u.a^2 - 4*u.b, b = u.b - pl.sum(u.a)/4} end
    local u = pl.newton(f, {a = pl.full({2, 1}, 3), b = 1}, {bounds = {a = {0.5, 10}}})
    close(u.b:item(), 1, 1e-12)
    assert.same({2, 1}, u.a.shape)
    local function with(u0)
      return pl.newton(function(w) return w - pl.flip(w)/2 - pl.tensor{1, 2, 3} end, u0, {fixed = {-1}})
    end
    local w = with(pl.tensor{0, 0, 8})
    close(w:item(1), 5, 1e-14)
    close(w:item(2), 4, 1e-14)
    close(w:item(3), 8, 0)
    local g = pl.grad(function(u0) return pl.sum(only(with(u0))) end)(pl.tensor{0, 0, 8})
    assert.same({0, 0, 1.5}, g:totable())
    local mask = pl.newton(function(v) return {x = v.x - 1, y = v.y - 2} end, {x = pl.zeros(2), y = pl.zeros(2)}, {fixed = {y = pl.tensor{true, false}}})
    assert.same({0, 2}, mask.y:totable())
    -- the projection keeps the logarithm defined
    close(pl.newton(function(v) return pl.log(v) - 1 end, pl.tensor{20.0}, {bounds = {1e-3, 100}}):item(1), math.exp(1), 1e-13)
    fails("'c' that the start has not", pl.newton, f, {a = pl.ones(2), b = 3}, {bounds = {c = {0, 1}}})
    fails("{lo, hi}", pl.newton, f, {a = pl.ones(2), b = 3}, {bounds = {a = 3}})
    fails("no place among 3", pl.newton, function(v) return v end, pl.zeros(3), {fixed = {4}})
  end)

  it("walks along a continuation", function()
    local seen = {}
    local function f(u, lambda)
      seen[#seen + 1] = lambda
      return pl.atan(10*u) - 1.4*lambda
    end
    local u, report = pl.newton(f, 1.0, {continuation = 4})
    close(u:item(), math.tan(1.4)/10, 1e-12)
    assert.same({0.25, 0.5, 0.75, 1}, seen)
    assert.is_true(report.converged)
    local g = pl.grad(function(p) return only(pl.newton(function(u1, l) return u1^3 + u1 - l*p end, 0.0, {continuation = {0.1, 1}})) end)(10.0)
    close(g, 1/13, 1e-12) -- u = 2
    fails("continuation", pl.newton, f, 1.0, {continuation = 0.5})
  end)

  it("follows a trust region and a transient where plain steps fail", function()
    local function f(u) return pl.atan(u) end -- Newton's method diverges from 3
    fails("newton", pl.newton, f, pl.tensor{3.0}, {line_search = "none"})
    for _, search in ipairs{"backtrack", "dogleg", "pseudo_transient"} do
      close(pl.newton(f, pl.tensor{3.0}, {line_search = search}):item(1), 0, 1e-12)
    end
    -- Powell's badly scaled function
    local function powell(u) return pl.stack{1e4*u[1]*u[2] - 1, pl.exp(-u[1]) + pl.exp(-u[2]) - 1.0001} end
    local u = pl.newton(powell, pl.tensor{0.0, 1.0}, {line_search = "dogleg", iterations = 200})
    close(u:item(2), 9.106146739866, 1e-9)
  end)

  it("reports", function()
    local u, r = pl.newton(function(v) return v^2 - 2 end, 1.0)
    close(u:item(), math.sqrt(2), 1e-15)
    assert.is_true(r.converged and r.iterations >= 4 and #r.history == r.iterations + 1 and r.evaluations > r.iterations)
    assert.equal("converged", r.message)
    close(r.history[1], 1, 0)
    local _, failed = pl.newton(function(v) return v^2 + 1 end, 0.5, {check = false})
    assert.is_false(failed.converged)
    assert.is_true(failed.message:find("lowers", 1, true) ~= nil)
    local _, short = pl.newton(function(v) return pl.exp(v) - 1e9 end, 0.0, {check = false, iterations = 3})
    assert.is_true(short.iterations == 3 and not short.converged)
    fails("did not converge has no derivative", pl.grad(function(p) return only(pl.newton(function(v) return v^2 + p end, 0.5, {check = false})) end), 1.0)
    fails("did not converge has no derivative", pl.grad(pl.compile(function(p) return only(pl.newton(function(v) return v^2 + p end, 0.5, {check = false})) end)), 1.0)
    local traced = pl.compile(function(p)
      local v, t = pl.newton(function(w) return w^2 - p end, 1.0, {check = false})
      return pl.where(t.converged, v, -1), t.iterations
    end)
    close(traced(pl.tensor(4.0)):item(), 2, 1e-14)
    close(traced(pl.tensor(-4.0)):item(), -1, 0)
  end)

  it("says why it fails, and goes on", function()
    local function f(u) return {v = u.v^2 + 1, w = u.m - 1} end
    local start = {v = pl.ones(2), m = pl.zeros(2, 2)}
    fails("v[1] (", pl.newton, f, start, {iterations = 2})
    fails("the residual's norm went", pl.newton, function(u) return u^2 + 1 end, pl.ones(2))
    fails("not finite where it starts", pl.newton, function(u) return pl.log(u) end, pl.tensor{-1.0})
    fails("singular at row 2", pl.newton, function(u) return pl.stack{u[1] + u[2], u[1] + u[2] - 1} end, pl.zeros(2))
    fails("do not depend on the unknown", pl.newton, function() return pl.ones(2) end, pl.ones(2))
    fails("2 equations for 3 unknowns", pl.newton, function(u) return u["2:"] end, pl.ones(3))
    fails("must be f64", pl.newton, function(u) return u end, pl.ones{2, dtype = "f32"})
    fails("returns nothing", pl.newton, function() end, pl.ones(2))
    fails("place to start from", pl.newton, function(u) return u end)
    fails("line_search is", pl.newton, function(u) return u end, pl.ones(2), {line_search = "wolfe"})
    fails("whole number", pl.newton, function(u) return u end, pl.ones(2), {iterations = 1.5})
    fails("transpose", pl.newton, function(u) return u end, pl.ones(2), {line_search = "dogleg", jacobian = "krylov"})
    fails("GMRES", pl.newton, function(u) return pl.stack{u[1] + u[2], u[1] + u[2] - 1} end, pl.zeros(2), {jacobian = "krylov"})
    close(pl.newton(function(u) return u^2 - 2 end, 1.0):item(), math.sqrt(2), 1e-15)
  end)

  it("goes inside scan, cond, while_loop and compile", function()
    local function loss(p)
      local last = pl.scan(function(u, k)
        local next = pl.newton(function(w) return w + p*w^3 - u - pl.cast(k, "f64")/10 end, u)
        return pl.cond(pl.sum(next):gt(1), function() return next/2 end, function() return next + p end)
      end, pl.zeros(3), 4)
      return pl.sum(last^2)
    end
    local p = pl.tensor{0.5, 1, 2}
    local v, g = pl.value_and_grad(loss)(p)
    local w, h = pl.value_and_grad(pl.compile(loss))(p)
    close(v:item(), w:item(), 1e-14)
    assert.is_true(largest(g - h) < 1e-13)
    local rates = pl.check_grad(loss, p)
    assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
  end)

  it("makes patterns and colourings once", function()
    local function solve(p)
      local start = now()
      pl.newton(function(u)
        local v = pl.pad(u, 1)
        return -pl.diff(pl.diff(v))*1e3 + p*u - 1
      end, pl.zeros(20000))
      return now() - start
    end
    local first, least = nil, math.huge
    pl.with({threads = 1}, function()
      first = solve(1)
      for k = 1, 20 do least = math.min(least, solve(1 + k/100)) end
    end)
    assert.is_true(least < 0.7*first, ("%g s, at first %g s"):format(least, first))
  end)
end)

describe("root", function()
  it("solves a cubic for many x", function()
    local x = pl.linspace(-10, 10, 10001)
    local function y(t, where) return only(pl.root(function(s) return s^3 + s - t end, where or {-3, 3})) end
    -- Cardano: y = 2/sqrt 3 sinh(asinh(3 sqrt 3 x/2)/3)
    local exact = 2/math.sqrt(3)*pl.sinh(pl.asinh(1.5*math.sqrt(3)*x)/3)
    for _, where in ipairs{{-3, 3}, {pl.full({10001}, -3), 4}, 0} do
      local s = y(x, where)
      assert.is_true(largest(s - exact) < 1e-14*3)
      local g = pl.grad(function(t) return pl.sum(y(t, where)) end)(x)
      assert.is_true(largest(g - 1/(3*exact^2 + 1)) < 1e-14)
    end
    local slope = pl.grad(function(a) return pl.sum(only(pl.root(function(s) return s^3 + a*s - x end, {-10, 10}))) end)(1.0)
    close(slope, pl.sum(-exact/(3*exact^2 + 1)):item(), 1e-10)
    local rates = pl.check_grad(function(t) return pl.sum(y(t)^2) end, pl.tensor{0.3, -2, 5})
    assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
    local all = pl.compile(function(t) return pl.sum(y(t)) end)
    close(pl.grad(all)(pl.tensor{10.0}):item(1), 1/13, 1e-15)
  end)

  it("brackets what Newton's method alone misses", function()
    for _, case in ipairs{
      {function(y) return pl.exp(y) - 1e5 end, {-1, 100}, math.log(1e5)}, {function(y) return pl.atan(y - 1) end, {-1000, 3000}, 1},
      {function(y) return pl.sign(y - 0.3)*pl.sqrt(pl.abs(y - 0.3)) end, {-1, 1}, 0.3}, {function(y) return y^9 end, {-1, 1.5}, 0, 1e-30},
      {function(y) return pl.log(y) + 3 end, {1e-9, 1e9}, math.exp(-3)}, {function(y) return y - 2 end, {2, 5}, 2},
    } do
      local y, report = pl.root(case[1], case[2], {iterations = 1000})
      close(y:item(), case[3], case[4] and 1e-2 or 1e-13*math.max(1, case[3]))
      assert.is_true(report.converged)
    end
  end)

  it("says why it fails", function()
    fails("no change of sign in equation 2", pl.root, function(y) return y - pl.tensor{0, 5} end, {-1, 1})
    fails("1 of 1 equations are not solved", pl.root, function(y) return y^2 + 1 end, 1.0)
    fails("equation 1 depends on unknown 3", pl.root, function(y) return y - pl.flip(y) end, pl.ones(3))
    fails("bracket {lo, hi} or a start", pl.root, function(y) return y end, {1})
    fails("do not depend", pl.root, function() return pl.ones(2) end, pl.ones(2))
    fails("returns a tensor", pl.root, function() end, 1.0)
    local y, report = pl.root(function(y) return y^2 - pl.tensor{4, -4} end, {0, 9}, {check = false})
    assert.is_false(report.converged)
    close(y:item(1), 2, 1e-14)
  end)
end)

describe("fixed_point", function()
  it("finds fixed points, faster with acceleration, and differentiates", function()
    local u, r = pl.fixed_point(function(v) return pl.cos(v) end, 1.0)
    close(u:item(), 0.73908513321516064, 1e-15)
    local _, plain = pl.fixed_point(function(v) return pl.cos(v) end, 1.0, {anderson = 0})
    assert.is_true(plain.converged and r.iterations < plain.iterations/3)
    local A = pl.tensor{{0.2, 0.1, 0}, {0.3, 0.1, 0.2}, {0, 0.4, 0.1}}
    local function f(options) return function(p)
      local w = pl.fixed_point(function(v) return {a = pl.tanh(A:matmul(v.a)*p.k) + p.b, c = v.c/2 + pl.sum(v.a)} end, {a = pl.zeros(3), c = 0}, options)
      return pl.sum(w.a^2) + w.c
    end end
    local p = {k = 1.3, b = pl.tensor{1, -0.5, 0.2}}
    local g
    for _, options in ipairs{{}, {jacobian = "krylov"}, {anderson = 0, check = false}, {damping = 0.7, anderson = 2}} do
      local rates = pl.check_grad(f(options), p)
      assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
      local h = pl.grad(pl.compile(f(options)))(p)
      g = g or h
      assert.is_true(largest(g.b - h.b) < 1e-10)
    end
  end)

  it("solves a linear system in as many steps as it has unknowns", function()
    local M = pl.tensor{{0.1, 3, 0}, {-2, 0.5, 1}, {0, 1, 2}} -- the plain iteration diverges
    local _, r = pl.fixed_point(function(v) return M:matmul(v) + 1 end, pl.zeros(3))
    assert.is_true(r.iterations <= 5)
    fails("fixed_point", pl.fixed_point, function(v) return M:matmul(v) + 1 end, pl.zeros(3), {anderson = 0, iterations = 2000})
    fails("did not converge", pl.fixed_point, function(v) return M:matmul(v) + 1 end, pl.zeros(3), {anderson = 0, iterations = 5})
    fails("takes 3 numbers and returns 2", pl.fixed_point, function(v) return v["2:"] end, pl.zeros(3))
    fails("at most 50", pl.fixed_point, function(v) return v end, pl.zeros(3), {anderson = 60})
    fails("is \"krylov\"", pl.fixed_point, function(v) return v end, pl.zeros(3), {jacobian = "no"})
  end)
end)

describe("argmin", function()
  local function rosenbrock(a, b) return function(u) return pl.sum(b*(u["2:"] - u[":-2"]^2)^2 + (a - u[":-2"])^2) end end

  it("finds minima, also from where the Hessian is indefinite", function()
    local u, r = pl.argmin(rosenbrock(1, 100), pl.tensor{-1.2, 1})
    assert.is_true(largest(u - 1) < 1e-10 and r.converged)
    local w = pl.argmin(function(v) return pl.sum(v^4/4 - v^2/2) end, pl.tensor{0.1, -0.2})
    assert.is_true(largest(w - pl.tensor{1, -1}) < 1e-12)
    close(pl.argmin(function(v) return pl.cosh(v - 2) end, 5.0):item(), 2, 1e-12)
    close(pl.argmin(pl.tensor{3, 1, 2}):item(), 2, 0)
  end)

  it("differentiates through the Hessian", function()
    local function energy(p)
      local u = pl.argmin(function(v) -- a chain of springs
        local e = pl.diff(pl.concat{pl.zeros(1), v.x})
        return pl.sum(p.k*e^2/2 + e^4/4) - pl.sum(v.x*p.f) + pl.cosh(v.y - p.f[1])
      end, {x = pl.zeros(4), y = 0})
      return pl.sum(u.x^2) + u.y^3
    end
    local p = {k = 2.0, f = pl.tensor{1, 0.5, -0.3, 0.2}}
    local rates = pl.check_grad(energy, p)
    assert.is_true(rates.gradient > 1.9 and rates.hessian > 2.9)
    local g, h = pl.grad(energy)(p), pl.grad(pl.compile(energy))(p)
    assert.is_true(largest(g.f - h.f) < 1e-10)
    -- least squares: d/dy of the mean is 1/n
    local m = pl.grad(function(y) return only(pl.argmin(function(v) return pl.sum((v - y)^2) end, 0.0)) end)(pl.tensor{1, 2, 6})
    assert.is_true(largest(m - 1/3) < 1e-14)
  end)

  it("says why it fails", function()
    fails("argmin", pl.argmin, function(v) return -pl.sum(v^2) end, pl.ones(2))
    fails("one number", pl.argmin, function(v) return v end, pl.ones(2))
    fails("does not depend", pl.argmin, function() return pl.tensor(1.0) end, pl.ones(2))
    fails("not finite", pl.argmin, function(v) return pl.sum(pl.log(v)) end, -pl.ones(2))
    fails("did not converge", pl.argmin, rosenbrock(1, 100), pl.tensor{-1.2, 1}, {iterations = 2})
    local _, r = pl.argmin(rosenbrock(1, 100), pl.tensor{-1.2, 1}, {iterations = 2, check = false})
    assert.is_false(r.converged)
  end)
end)
