-- Jacobians, Hessians, their sparse forms and linearizations against closed forms, each other and differences.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse

local function near(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance, ("%.17g is not %.17g"):format(a, b)) end
local function same(a, b, tolerance)
  assert.are.same(a.shape, b.shape)
  if a.count > 0 then near(pl.max(pl.abs(a - b)):item(), 0, tolerance) end
end
local fails = require("tests.expect").fails

describe("dense", function()
  it("jacobian agrees with closed forms in both modes", function()
    local rng = pl.rng(4)
    local A, x = rng:normal(3, 5), rng:normal(5)
    local f = function(u) return pl.tanh(A:matmul(u)) end
    local y = f(x)
    local exact = (1 - y^2):expand(1)*A
    for _, mode in ipairs{"forward", "reverse"} do same(pl.jacobian(f, {mode = mode})(x), exact, 1e-15) end
    same(pl.jacobian(f)(x), exact, 1e-15)
    -- matrices by matrices: d (X B)_ij / d X_kl = [i = k] B_lj
    local B, X = rng:normal(2, 4), rng:normal(3, 2)
    local J = pl.jacobian(function(u) return u:matmul(B) end)(X)
    assert.are.same({3, 4, 3, 2}, J.shape)
    for i = 1, 3 do for j = 1, 4 do for k = 1, 3 do for l = 1, 2 do
      near(J:item(i, j, k, l), i == k and B:item(l, j) or 0, 1e-15)
    end end end end
    assert.are.same({3, 3, 2}, pl.jacobian(function(u, b) return pl.sum(u:matmul(b), 2) end)(X, B).shape)
    assert.are.same({3, 2, 4}, pl.jacobian(function(u, b) return pl.sum(u:matmul(b), 2) end, {wrt = 2})(X, B).shape)
  end)

  it("trees give trees of blocks; numbers stay numbers", function()
    for _, mode in ipairs{"forward", "reverse"} do
      local J = pl.jacobian(function(p) return {a = p.u*p.s, b = {pl.sum(p.u^2), p.s^3}} end, {mode = mode}){u = pl.tensor{1, 2}, s = 3.0}
      assert.are.same({{3, 0}, {0, 3}}, J.a.u:totable())
      assert.are.same({1, 2}, J.a.s:totable())
      assert.are.same({2, 4}, J.b[1].u:totable())
      assert.are.equal(0, J.b[1].s)
      assert.are.same({0, 0}, J.b[2].u:totable())
      assert.are.equal(27, J.b[2].s)
    end
    assert.are.equal(6, pl.jacobian(function(x) return x^2 end)(3.0))
    assert.are.same({0, 2}, pl.jacobian(function(x) return x*0 end)(pl.zeros(0)).shape and {0, 2})
    assert.are.same({0, 0}, pl.jacobian(function(x) return x*2 end)(pl.zeros(0)).shape)
  end)

  it("takes more rows than one op takes tensors", function()
    local n = 1203
    local J = pl.jacobian(function(x) return x^2 end)(pl.arange(1, n))
    near(pl.sum(J):item(), n*(n + 1), 0)
    near(J:item(1203, 1203), 2*n, 0)
  end)

  it("plain Lua decides on values outside of traces", function()
    local f = function(x) if x:item(1) > 0 then return x^2 end return x^3 end
    assert.are.same({{2, 0}, {0, 4}}, pl.jacobian(f)(pl.tensor{1, 2}):totable())
    assert.are.same({{3, 0}, {0, 12}}, pl.jacobian(f)(pl.tensor{-1, 2}):totable())
  end)

  it("hessian agrees with the closed form; both modes; trees; f32", function()
    local x = pl.tensor{0.3, -0.4, 0.9}
    local function f(u) return pl.sum(pl.exp(u))*pl.sum(u) end
    local e, s = pl.exp(x), pl.sum(x)
    local exact = (e*s):expand(1)*pl.eye(3) + e:expand(1) + pl.broadcast_to(e, 3, 3)
    for _, mode in ipairs{"forward", "reverse"} do same(pl.hessian(f, {mode = mode})(x), exact, 1e-14) end
    local H = pl.hessian(function(p) return p.a^2*pl.sum(p.b) end){a = 3.0, b = pl.ones(2)}
    assert.are.equal(4, H.a.a)
    assert.are.same({6, 6}, H.a.b:totable())
    assert.are.same({6, 6}, H.b.a:totable())
    assert.are.same({{0, 0}, {0, 0}}, H.b.b:totable())
    assert.are.equal("f32", pl.hessian(function(u) return pl.sum(u^3) end)(pl.ones{2, dtype = "f32"}).dtype)
    fails("single number", pl.hessian(function(u) return u end), x)
  end)

  it("is differentiable, and works in a trace", function()
    local rng = pl.rng(8)
    local A = rng:normal(3, 3)
    local f = function(u) return pl.sin(A:matmul(u))*u end
    pl.check_grad(function(x) return pl.sum(pl.jacobian(f)(x)^2) end, rng:normal(3))
    pl.check_grad(function(x) return pl.sum(pl.hessian(function(u) return pl.sum(f(u)^2) end)(x)^2) end, rng:normal(3))
    local x = rng:normal(3)
    local J, H = pl.jacobian(f)(x), pl.hessian(function(u) return pl.sum(f(u)) end)(x)
    for _, mode in ipairs{"forward", "reverse"} do
      local traced = pl.checkpoint(function(u) return pl.jacobian(f, {mode = mode})(u), pl.hessian(function(v) return pl.sum(f(v)) end, {mode = mode})(u) end)
      local J2, H2 = traced(x)
      same(J2, J, 1e-14)
      same(H2, H, 1e-13)
      pl.check_grad(function(u) return pl.sum((traced(u))^2) end, x)
    end
  end)

  it("says what is wrong", function()
    fails("needs a function", pl.jacobian, 3)
    fails("no option 'mod'", pl.jacobian, math.sin, {mod = 1})
    fails("mode is", pl.jacobian, math.sin, {mode = "up"})
    fails("wrt is", pl.hessian, math.sin, {wrt = 0})
    fails("argument 2 is nil", pl.jacobian(math.sin, {wrt = 2}), 1)
    fails("is i64", pl.jacobian(function(x) return x end), pl.tensor({1, 2}, {dtype = "i64"}))
    fails("result is bool", pl.jacobian(function(x) return x:gt(0) end), pl.ones(2))
    fails("returns nothing", pl.jacobian(function() end), pl.ones(2))
    assert.is_false(core.recording())
  end)
end)

describe("sparse", function()
  -- a nonlinear 5-point stencil: u - div(k(u) grad u), k = 1 + u^2, on n x n points with walls
  local function stencil(u)
    local k = 1 + u^2
    local fx = pl.diff(u, {axis = 1})*0.5*(k("2:", ":") + k("1:-2", ":"))
    local fy = pl.diff(u, {axis = 2})*0.5*(k(":", "2:") + k(":", "1:-2"))
    return u - pl.diff(pl.pad(fx, {1, 1, 0, 0}), {axis = 1}) - pl.diff(pl.pad(fy, {0, 0, 1, 1}), {axis = 2})
  end

  it("jacobian of a nonlinear 5-point stencil is the dense one", function()
    local n = 40
    local u = pl.rng(2):normal(n, n)
    local J = pl.sparse_jacobian(stencil)
    local M = J(u)
    assert.are.same({n*n, n*n}, M.shape)
    assert.are.equal(5*n*n - 4*n, M.nnz)
    local plan = J.plan(u)
    assert.is_true(plan.colours >= 5 and plan.colours <= 8, tostring(plan))
    assert.are.equal(M.nnz, plan.nonzeros)
    assert.are.equal(tostring(plan), tostring(J:plan(u)))
    local D = pl.jacobian(stencil, {mode = "forward"})(u):reshape(n*n, n*n)
    same(M:dense(), D, 1e-13)
  end)

  it("is remembered for the program, not for the function", function()
    local u = pl.rng(2):normal(30, 30)
    local J = pl.sparse_jacobian(stencil)
    local first = J(u)
    local second = pl.sparse_jacobian(function(v) return stencil(v) end)(u*2)
    assert.is_true(core.sparse.same(first.pattern, second.pattern))
  end)

  it("gather and add_at with repeated indices", function()
    local from, to = pl.tensor{1, 3, 3, 7, 2, 7}, pl.tensor{2, 2, 5, 1, 5, 5}
    local function f(x)
      local y = pl.sin(x(from))*x(to)
      return pl.zeros(6):at(to):add(y)
    end
    local x = pl.rng(3):normal(7)
    local M = pl.sparse_jacobian(f)(x)
    same(M:dense(), pl.jacobian(f)(x), 1e-15)
    -- bin 1: x7, x1; bin 2: x1, x3 and x2; bin 5: x3, x2, x7 and x5
    assert.are.equal(2 + 3 + 4, M.nnz)
    local H = function(u) return pl.sum(f(u)^3) end
    same(pl.sparse_hessian(H)(x):dense(), pl.hessian(H)(x), 1e-13)
    -- other indices of the same program give another pattern
    local function at(index) return pl.sparse_jacobian(function(u) return u(index)^2 end) end
    for _, index in ipairs{pl.tensor{1, 2, 2}, pl.tensor{5, 1, 2}, pl.tensor{1, 2, 2}} do
      local J = at(index)(x)
      assert.are.equal(3, J.nnz)
      same(J:dense(), pl.jacobian(function(u) return u(index)^2 end)(x), 0)
    end
  end)

  it("products, reductions, sparse matrices and checkpoints", function()
    local A = sparse.diags({-1, 2, -1}, {-1, 0, 1}, 12)
    local W = pl.rng(5):normal(4, 3)
    local function f(x)
      local m = x:reshape(3, 4)
      local y = (A*x^2)*x
      local B = sparse.diags({x, x("2:")^2}, {0, 1}, 12)
      return pl.concat{y, pl.prod(m, 1), pl.max(m, 2), pl.norm(m, {axis = 2}), m:matmul(W):ravel(), pl.cumsum(m, 2):ravel(), (B*B)*pl.ones(12),
        pl.checkpoint(function(u) return pl.exp(u(pl.tensor{2, 2, 9})) end)(x), pl.mean(m, 1)/x("1:4")}
    end
    local x = pl.rng(6):normal(12)
    local M = pl.sparse_jacobian(f)(x)
    assert.is_true(M.nnz == 184 and M.shape[1] == 62, tostring(M.nnz))
    same(M:dense(), pl.jacobian(f)(x), 1e-13)
    for _, g in ipairs{
      function(u) return pl.sum(f(u)^2) end,
      function(u) return pl.sum((A*u^2)*u) end,
      function(u) return pl.sum(pl.prod(u:reshape(3, 4), 1)) + pl.sum(pl.norm(u:reshape(3, 4), {axis = 2})) end,
      function(u) return pl.sum(pl.sum(u:reshape(3, 4):matmul(W))*u(1)) + pl.sum(u:reshape(3, 4):matmul(u:reshape(4, 3))) end,
      function(u) return pl.sum(pl.checkpoint(function(v) return v*v("-1:1:-1") end)(u)/(1 + u(2)^2)) end,
      function(u) return pl.sum(u) end,
    } do
      same(pl.sparse_hessian(g)(x):dense(), pl.hessian(g)(x), 1e-11)
    end
    assert.are.equal(0, pl.sparse_hessian(function(u) return pl.sum(u) end)(x).nnz)
    assert.are.equal(0, pl.sparse_jacobian(function(u) return pl.sign(u) end)(x).nnz)
    assert.are.equal(12, pl.sparse_hessian(function(u) return pl.sum(u^2) end)(x).nnz)
  end)

  it("loops and branches, step by step", function()
    local n = 12
    local function walk(x) -- five steps of an explicit scheme: 2 neighbours a step
      local u, y = pl.scan(function(u) local v = pl.pad(u("3:") - 2*u("2:-2") + u(":-3"), 1); return u + 0.1*v*u, u(2) end, x, 5)
      return pl.concat{u, y}
    end
    local x = pl.rng(6):normal(n)
    local M = pl.sparse_jacobian(walk)(x)
    local entries = 0 -- within 5 of the diagonal; the ends stay; y: of u[2] after 0 to 4 steps
    for i = 2, n - 1 do entries = entries + math.min(n, i + 5) - math.max(1, i - 5) + 1 end
    assert.are.equal(entries + 2 + 1 + 3 + 4 + 5 + 6, M.nnz)
    same(M:dense(), pl.jacobian(walk)(x), 1e-13)
    local function rows(v) -- each step on its own row
      local _, y = pl.scan(function(c, r) return c, pl.sin(r)*r(1) end, 0, v:reshape(4, 3))
      return y:ravel()
    end
    local R = pl.sparse_jacobian(rows)(x)
    assert.are.equal(4*5, R.nnz)
    same(R:dense(), pl.jacobian(rows)(x), 1e-13)
    local function branch(v)
      local w = pl.cond(pl.sum(v):gt(0), function() return v("2:")*v("1:-2") end, function() return v("2:") end)
      return (pl.while_loop(function(s) return pl.sum(s^2):lt(50) end, function(s) return s*w*3 + s end, w))
    end
    local B = pl.sparse_jacobian(branch)(pl.abs(x))
    assert.are.equal(2*(n - 1), B.nnz)
    same(B:dense(), pl.jacobian(branch)(pl.abs(x)), 1e-13)
    for _, f in ipairs{walk, rows, branch} do
      local function g(v) return pl.sum(f(v)^2) end
      same(pl.sparse_hessian(g)(pl.abs(x)):dense(), pl.hessian(g)(pl.abs(x)), 1e-9)
    end
    local H = pl.sparse_hessian(function(v) return pl.sum((pl.scan(function(s) return pl.sin(s*v) end, v, 20, {checkpoints = 3}))) end)
    assert.are.equal(n, H(x).nnz)
  end)

  it("rows instead of columns where they are fewer", function()
    -- each result depends on few of many inputs, but one input on all: columns 2, rows many; and the other way round
    local x = pl.rng(1):normal(20)
    local J = pl.sparse_jacobian(function(u) return u("2:")*u("1:-2")*1 end)
    assert.are.equal("forward", J.plan(x).mode)
    local K = pl.sparse_jacobian(function(u) return pl.concat{u, pl.sum(u^2):reshape(1)} end)
    assert.are.equal("reverse", K.plan(x).mode)
    assert.are.equal(2, K.plan(x).colours)
    same(K(x):dense(), pl.jacobian(function(u) return pl.concat{u, pl.sum(u^2):reshape(1)} end)(x), 0)
  end)

  it("hessian of a Rosenbrock chain and of an arrow", function()
    local function rosenbrock(x) return pl.sum(100*(x("2:") - x("1:-2")^2)^2 + (1 - x("1:-2"))^2) end
    local n = 50
    local x = pl.rng(9):normal(n)
    local H = pl.sparse_hessian(rosenbrock)
    local M = H(x)
    assert.are.equal(3*n - 2, M.nnz)
    assert.are.equal(3, H.plan(x).colours)
    local D = M:dense()
    for i = 1, n do
      local a, left = x:item(i), i > 1 and 200 or 0
      local right = i < n and 2 + 1200*a^2 - 400*x:item(i + 1) or 0
      near(D:item(i, i), left + right, 1e-11*(1 + math.abs(right)))
      if i < n then
        near(D:item(i, i + 1), -400*a, 1e-11)
        near(D:item(i + 1, i), -400*a, 1e-11)
      end
    end
    local arrow = pl.sparse_hessian(function(u) return pl.sum(u*u(1)) + pl.sum(u^4) end)
    assert.are.equal(2, arrow.plan(x).colours)
    same(arrow(x):dense(), pl.hessian(function(u) return pl.sum(u*u(1)) + pl.sum(u^4) end)(x), 1e-11)
  end)

  it("values are differentiable", function()
    local rng = pl.rng(12)
    local x = rng:normal(4, 4)
    pl.check_grad(function(u) return pl.sum(pl.sparse_jacobian(stencil)(u).values^2) end, x)
    local b = rng:normal(16)
    -- one Newton step, and its derivative
    pl.check_grad(function(u) return pl.sum((u:ravel() - pl.sparse_jacobian(stencil)(u):solve(stencil(u):ravel() - b))^2) end, x)
    pl.check_grad(function(u) return pl.sum(pl.sparse_hessian(function(v) return pl.sum(stencil(v)^2) end)(u).values^2) end, x, {order = 2})
    pl.check_grad(function(p) return pl.sum(pl.sparse_jacobian(function(u) return pl.sin(u*p.k)("2:", ":") end)(x).values^2) end, {k = 0.7})
    pl.check_grad(function(p) return pl.sum((pl.sparse_jacobian(function(u) return pl.concat{pl.sum(u^3):reshape(1), u^2} end)(p)*pl.ones(5))^2) end, rng:normal(5))
  end)

  it("works in a trace, in f32, and says what is wrong", function()
    local x = pl.rng(12):normal(16)
    local f = function(u) return pl.diff(u^3)*u("2:") end
    local M = pl.sparse_jacobian(f)(x)
    local values = pl.checkpoint(function(u) return pl.sparse_jacobian(f)(u).values, pl.sparse_hessian(function(v) return pl.sum(f(v)) end)(u).values end)
    local v, h = values(x)
    same(v, M.values, 1e-14)
    same(h, pl.sparse_hessian(function(u) return pl.sum(f(u)) end)(x).values, 1e-13)
    pl.check_grad(function(u) return pl.sum((values(u))^2) end, x)
    -- Newton's method in a loop
    local g = function(u) return u^3 + 0.1*pl.cumsum(u)(pl.tensor{1, 1, 2, 3}) - pl.tensor{1, 2, 3, 4} end
    local root = pl.scan(function(u) return u - pl.sparse_jacobian(g)(u):solve(g(u)) end, pl.ones(4), 12)
    near(pl.max(pl.abs(g(root))):item(), 0, 1e-13)
    local single = pl.sparse_jacobian(f)(x:to "f32")
    assert.are.equal("f32", single.values.dtype)
    same(single.values:to "f64", M.values, 1e-4)
    fails("one tensor", pl.sparse_jacobian(f), {x})
    fails("must return one tensor", pl.sparse_jacobian(function(u) return {u, u} end), x)
    fails("single number", pl.sparse_hessian(f), x)
    fails("no option 'mode'", pl.sparse_jacobian, f, {mode = "forward"})
    fails("needs a tensor of as many values", sparse.with_values, M, pl.ones(3))
    same(sparse.with_values(M, M.values*2):dense(), M:dense()*2, 0)
    assert.is_false(core.recording())
  end)
end)

describe("linearize", function()
  it("pushes and pulls what jvp and vjp do, any number of times", function()
    local A = sparse.diags({-1, 4, -1}, {-1, 0, 1}, 6)
    local rng = pl.rng(3)
    local calls = 0
    local function f(p)
      calls = calls + 1
      local u = (A + sparse.diag(p.d^2)):solve(pl.exp(p.b)) -- a factor is kept
      local s = pl.scan(function(v) return pl.tanh(v*p.k) + 0.1*u end, u, 5)
      return {u = u, s = s, n = pl.sum(s)*p.k}
    end
    local x = {d = rng:normal(6), b = rng:normal(6), k = 0.8}
    local value, push, pull = pl.linearize(f, x)
    local before = calls
    for i = 1, 3 do
      local t, w = {d = rng:normal(6), b = rng:normal(6), k = i}, {u = rng:normal(6), s = rng:normal(6), n = 0.5*i}
      local y, dy = pl.jvp(f, x, t)
      local _, back = pl.vjp(f, x)
      local g, got, pulled = back(w), push(t), pull(w)
      for _, key in ipairs{"u", "s", "n"} do
        same(value[key], y[key], 1e-14)
        same(got[key], dy[key], 1e-12)
      end
      for _, key in ipairs{"d", "b"} do same(pulled[key], g[key], 1e-12) end
      near(pulled.k, g.k, 1e-11)
    end
    assert.are.equal(before + 6, calls) -- those of jvp and vjp alone
    fails("2 leaves, 3 are needed", push, {d = x.d, b = x.b})
    fails("d has shape {5}, {6} is needed", push, {d = pl.ones(5), b = x.b, k = 1})
  end)

  it("is differentiable, in recordings and traces", function()
    local function f(u) return pl.sin(u)*u(1) end
    local t, w = pl.tensor{1, 2, 3}, pl.tensor{-1, 1, 2}
    local function g(u)
      local y, push, pull = pl.linearize(f, u)
      return pl.sum(push(t)^2) + pl.sum(pull(w)*u) + pl.sum(y)
    end
    pl.check_grad(g, pl.tensor{0.3, 0.7, 1.1})
    pl.check_grad(pl.checkpoint(g), pl.tensor{0.3, 0.7, 1.1})
    near(pl.checkpoint(g)(pl.tensor{0.3, 0.7, 1.1}):item(), g(pl.tensor{0.3, 0.7, 1.1}):item(), 1e-14)
  end)

  it("keeps nothing but inputs where there would be too much", function()
    local function f(u)
      for _ = 1, 700 do u = pl.sin(u) + pl.cos(u*0.5) end
      return u
    end
    local x, t = pl.tensor{0.3, 0.7}, pl.tensor{1, -2}
    local y, push, pull = pl.linearize(f, x)
    local value, dy = pl.jvp(f, x, t)
    same(y, value, 1e-14)
    same(push(t), dy, 1e-14)
    same(pull(t), select(2, pl.vjp(f, x))(t), 1e-14)
  end)

  it("leaves nothing behind", function()
    local x = pl.ones(50)
    local J = pl.sparse_jacobian(function(u) return pl.diff(pl.exp(u)*u) end)
    local function rounds(n)
      for _ = 1, n do
        J(x)
        local _, push = pl.linearize(function(u) return pl.exp(u)*u end, x)
        push(x)
        pl.jacobian(function(u) return pl.sum(u^2) end)(x)
      end
      for _ = 1, 5 do collectgarbage() end
      return core.memory()
    end
    rounds(20) -- and what earlier tests left is collected
    local before, after = rounds(20), rounds(100)
    assert.is_true(after.live <= before.live)
    assert.is_true(after.used <= before.used*1.01)
  end)
end)

describe("rows and adjoints", function()
  it("pointwise_jacobian: rows on their own", function()
    local x = pl.rng(7):normal(6, 3)
    local function law(u, k)
      local a, b, c = u(":", 1), u(":", 2), u(":", 3)
      return pl.stack({k*a*b, pl.exp(c)*a}, 2)
    end
    for _, f in ipairs{law, function(u) return pl.concat({law(u, 2), u^2, u}, 2) end} do
      local D = pl.pointwise_jacobian(f)(x, 2)
      local full = pl.jacobian(f)(x, 2) -- {q, j, q, i}
      assert.are.same({6, full.shape[2], 3}, D.shape)
      for q = 1, 6 do same(D(q, ":", ":"), full(q, ":", q, ":"), 1e-15) end
      same(pl.checkpoint(function(u) return pl.pointwise_jacobian(f)(u, 2) end)(x), D, 1e-15)
    end
    near(pl.pointwise_jacobian(law)(x, 2):item(4, 1, 2), 2*x:item(4, 1), 1e-15)
    pl.check_grad(function(u) return pl.sum(pl.pointwise_jacobian(law)(u, 2)^2) end, x)
    fails("a tensor {6, j} is needed", pl.pointwise_jacobian(function(u) return pl.sum(u) end), x)
    fails("shape {q, i}", pl.pointwise_jacobian(law), pl.ones(3))
  end)

  it("check_adjoint accepts right rules and finds wrong ones", function()
    local A = sparse.diags({-1, 2.5, -1}, {-1, 0, 1}, 5)
    local r = pl.check_adjoint(function(p) return {(p.s*A):solve(pl.exp(p.b)), p.s*2} end, {s = 1.5, b = pl.linspace(0, 1, 5)})
    assert.is_true(r.difference < 1e-12 and r.forward ~= 0)
    near(r.forward, r.reverse, 1e-10)
    -- the numbers themselves: J = diag(a), <J v, w> = sum a v w
    local a = pl.tensor{2, 3}
    local v = core.random("normal")({2}, 2^32, 5, 1)
    local w = core.random("normal")({2}, 2^32, 5, 2)
    near(pl.check_adjoint(function(x) return a*x end, pl.ones(2), {seed = 5}).forward, pl.sum(a*v*w):item(), 1e-14)
    pl.check_adjoint(function(x) return pl.sum(x^3) end, pl.ones{400, dtype = "f32"})
    assert.are.equal(0, pl.check_adjoint(function(x) return x*0 end, pl.ones(3)).difference)
    -- a function whose forward and reverse evaluations differ by 1e-6 (it counts its calls)
    local k = 0
    local function drifting(x)
      k = k + 1
      return x*(1 + 1e-6*k)
    end
    local ok, text = pcall(pl.check_adjoint, drifting, pl.ones(3))
    assert.is_false(ok)
    assert.is_truthy(text:find("<J v, w> = ", 1, true) and text:find("<v, J' w> = ", 1, true), text)
    assert.is_true(pl.check_adjoint(drifting, pl.ones(3), {rtol = 1e-5}).difference > 1e-8)
    fails("no option 'tol'", pl.check_adjoint, drifting, pl.ones(3), {tol = 1})
  end)
end)
