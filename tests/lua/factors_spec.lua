-- Factors, least squares, eigenvalues, matrix functions and banded systems, against tests/data/linalg.csv (mpmath, 60 digits;
-- linalg.py makes it), closed forms and identities; derivatives against the oracles' and against slopes; errors.
local pl = require "perilune"

local function near(a, b, tolerance)
  a, b = pl.tensor(a), pl.tensor(b)
  assert.are.same(a.shape, b.shape)
  local d = pl.max(pl.abs(a - b)):item()
  assert.is_true(d <= (tolerance or 1e-13), ("%g apart"):format(d))
end
local function near_relative(a, b, tolerance) -- to the largest
  local size = pl.max(pl.abs(b)):item()
  near(a/size, b/size, tolerance)
end
local fails = require("tests.expect").fails
local function t(A) -- of the last two axes
  local order = {}
  for k = 1, #A.shape do order[k] = k end
  order[#order], order[#order - 1] = order[#order - 1], order[#order]
  return pl.transpose(A, order)
end
local function elements(A) local n = 1; for _, m in ipairs(A.shape) do n = n*m end; return n end
local data = {}
for line in io.lines "tests/data/linalg.csv" do
  local name, m, n, numbers = line:match "([^,]+),(%d+),(%d+),(.*)"
  local list = {}
  for x in numbers:gmatch "[^,]+" do list[#list + 1] = tonumber(x) end
  data[name] = pl.tensor(list):reshape(tonumber(m), tonumber(n))
end
local nan = 0/0

describe("factors", function()
  local rng = pl.rng(5)
  local shapes = {{4, 4}, {6, 3}, {3, 6}, {2, 3, 5, 2}, {2, 2, 5}, {1, 1}, {0, 3, 3}, {3, 0}, {0, 4}}

  it("qr: A = Q R, Q' Q = I, R triangular with a diagonal that is not negative", function()
    local Q, R = pl.qr(pl.tensor{{3, 1}, {4, 2}})
    near(Q, {{0.6, -0.8}, {0.8, 0.6}})
    near(R, {{5, 2.2}, {0, 0.4}})
    for _, shape in ipairs(shapes) do
      local A = rng:normal(unpack(shape))
      Q, R = pl.qr(A)
      local k = math.min(shape[#shape], shape[#shape - 1])
      assert.are.equal(k, Q.shape[#shape])
      if elements(A) > 0 then
        near(pl.matmul(Q, R), A, 1e-14*20)
        near(pl.matmul(t(Q), Q), pl.eye(k):broadcast_to(unpack(pl.matmul(t(Q), Q).shape)), 1e-14)
        near(pl.tril(R, -1), pl.zeros(unpack(R.shape)), 0)
        assert.is_true(pl.all(pl.diagonal(R):ge(0)))
      end
    end
    Q, R = pl.qr(1e-300*pl.tensor{{3, 1}, {4, 2}})
    near(Q, {{0.6, -0.8}, {0.8, 0.6}})
    near(1e300*R, {{5, 2.2}, {0, 0.4}})
    assert.are.equal("f32", pl.qr(pl.eye(2):to("f32")).dtype)
    -- R'R = A'A, so that R's derivative is that of the Cholesky factor, turned
    local A, C = rng:normal(5, 3), rng:normal(3, 3)
    local by_qr = pl.grad(function(p) local _, r = pl.qr(p); return pl.sum(C*r) end)(A)
    local by_cholesky = pl.grad(function(p) return pl.sum(C:transpose()*pl.cholesky(pl.matmul(t(p), p))) end)(A)
    near(by_qr, by_cholesky, 1e-11)
    for _, shape in ipairs{{4, 4}, {5, 3}, {3, 5}} do
      local X = rng:normal(unpack(shape))
      local function f(p)
        local q, r = pl.qr(p)
        return pl.sum(q^3)*r(1, -1) + pl.sum(pl.sin(r))
      end
      pl.check_grad(f, X)
      pl.check_grad(function(p) return pl.sum(pl.grad(f)(p)^2) end, X)
    end
    -- dependent columns have factors, and no derivative; unless it is not asked for
    local D = pl.tensor{{1, 2}, {2, 4}, {3, 6}}
    near(pl.matmul(pl.qr(D), select(2, pl.qr(D))), D)
    fails("linearly dependent: its factors have no derivative", pl.grad(function(p) return pl.sum(pl.qr(p)^3) end), D)
    fails("qr: matrices are needed, not {3}", pl.qr, pl.ones(3))
    assert.is_true(pl.all(pl.isnan((pl.qr(pl.full({3, 2}, nan))))))
  end)

  it("lu: A = P L U", function()
    local P, L, U = pl.lu(pl.tensor{{1, 2}, {4, 2}, {2, 0}})
    near(P, {{0, 1, 0}, {1, 0, 0}, {0, 0, 1}}, 0)
    near(L, {{1, 0}, {0.25, 1}, {0.5, -2/3}})
    near(U, {{4, 2}, {0, 1.5}})
    for _, shape in ipairs(shapes) do
      local A = rng:normal(unpack(shape))
      P, L, U = pl.lu(A)
      if elements(A) > 0 then
        near(pl.matmul(pl.matmul(P, L), U), A)
        near(pl.triu(L, 1), pl.zeros(unpack(L.shape)), 0)
        near(pl.tril(U, -1), pl.zeros(unpack(U.shape)), 0)
        near(pl.diagonal(L), pl.ones(unpack(pl.diagonal(L).shape)), 0)
        assert.is_true(pl.max(pl.abs(L)):item() <= 1)
        near(pl.sum(P, #shape), pl.ones(unpack(pl.sum(P, #shape).shape)), 0)
      end
    end
    L = select(2, pl.lu(1e-300*pl.ones(3, 3))) -- no overflow of 1/pivot
    near(pl.matmul(L, pl.tensor{{1}, {0}, {0}}), pl.ones(3, 1))
    for _, shape in ipairs{{4, 4}, {5, 3}, {3, 5}} do
      local X = rng:normal(unpack(shape))
      local function f(p)
        local _, l, u = pl.lu(p)
        return pl.sum(pl.sin(l)) + pl.sum(u^2*pl.cos(u))
      end
      pl.check_grad(f, X)
      pl.check_grad(function(p) return pl.sum(pl.grad(f)(p)^2) end, X)
    end
    fails("linearly dependent", pl.grad(function(p) local _, l = pl.lu(p); return pl.sum(l) end), pl.ones(3, 3))
    fails("lu: matrices are needed, not {3}", pl.lu, pl.ones(3))
    assert.is_true(pl.all(pl.isnan((pl.lu(pl.full({2, 2}, 1/0))))))
  end)

  it("svd, svdvals: signs, shapes, derivatives where there are some", function()
    for k = 0, 2 do
      local A, S = data["svd" .. k .. ".A"], pl.ravel(data["svd" .. k .. ".S"])
      near_relative(pl.svdvals(A), S, 4e-15)
      local U, s, Vh = pl.svd(A)
      near_relative(s, S, 4e-15)
      near_relative(pl.matmul(U*s, Vh), A, 1e-14)
      assert.is_true(pl.all((pl.max(U, 1) + pl.min(U, 1)):ge(-1e-7))) -- the largest component is positive
      assert.are.same({A.shape[1], #s}, U.shape)
      assert.are.same({#s, A.shape[2]}, Vh.shape)
    end
    for _, shape in ipairs(shapes) do
      local A = rng:normal(unpack(shape))
      local U, S, Vh = pl.svd(A)
      if elements(A) > 0 then
        local s = S:reshape(unpack(pl.sum(U, #shape - 1, {keep = true}).shape))
        near(pl.matmul(U*s, Vh), A)
      end
    end
    for _, shape in ipairs{{4, 4}, {5, 3}, {3, 5}, {4, 1}} do
      local X, E = rng:normal(unpack(shape)), rng:normal(unpack(shape))
      local function f(p)
        local U, S, Vh = pl.svd(p)
        return pl.sum(pl.matmul(pl.sin(U), Vh)*E) + pl.sum(pl.cos(U)*S) + pl.sum(Vh^3)
      end
      pl.check_grad(f, X)
      pl.check_grad(function(p) return pl.sum(pl.grad(f)(p)^2) end, X)
      pl.check_grad(function(p) return pl.sum(pl.exp(pl.svdvals(p))) end, X)
      -- what does not depend on the factors' freedom: U S V' is A
      near(pl.grad(function(p) local U, S, Vh = pl.svd(p); return pl.sum(pl.matmul(U*S, Vh)*E) end)(X), E, 1e-12)
    end
    -- the derivative of the nuclear norm is U V', of those above zero: also at equal and at vanishing singular values
    local function nuclear(p) return pl.sum(pl.svdvals(p)) end
    near(pl.grad(nuclear)(3*pl.eye(3)), pl.eye(3))
    local u, v = pl.tensor{0.6, 0.8, 0}, pl.tensor{0.8, -0.6}
    near(pl.grad(nuclear)(2*pl.outer(u, v)), pl.outer(u, v))
    near(select(2, pl.jvp(nuclear, 2*pl.outer(u, v), pl.outer(u, v))), 1)
    near(pl.grad(nuclear)(pl.zeros(2, 3)), pl.zeros(2, 3), 0)
    local C = rng:normal(3, 3)
    local function vectors(p) local U, _, Vh = pl.svd(p); return pl.sum(pl.matmul(U, Vh)^3) end
    fails("svd: singular values 1 and 2 coincide (3)", pl.grad(function(p) local U = pl.svd(p); return pl.sum(pl.matmul(U, C)) end), 3*pl.eye(3))
    fails("singular value 2 is zero", pl.grad(vectors), pl.outer(u, v))
    fails("svd: matrices are needed, not {2}", pl.svd, pl.ones(2))
    assert.is_true(pl.all(pl.isnan(pl.svdvals(pl.full({2, 2}, nan)))))
    near(1e200*pl.svdvals(1e-200*pl.tensor{{3, 0}, {4, 5}}), {math.sqrt(45), math.sqrt(5)}, 1e-14)
  end)

  it("pinv, matrix_rank, condition_number, matrix_norm, matrix_power", function()
    for k = 0, 2 do
      local A = data["svd" .. k .. ".A"]
      near_relative(pl.pinv(A), data["svd" .. k .. ".P"], 1e-13)
      assert.are.equal(k == 2 and 2 or math.min(unpack(A.shape)), pl.matrix_rank(A):item())
    end
    assert.are.equal("i64", pl.matrix_rank(pl.eye(2)).dtype)
    assert.are.same({1, 2, 0}, {pl.matrix_rank(pl.ones(3, 3)):item(), pl.matrix_rank(pl.diag(pl.tensor{1, 0.1, 1e-4}), {rtol = 1e-3}):item(),
      pl.matrix_rank(pl.zeros(2, 2)):item()})
    near(pl.pinv(pl.diag(pl.tensor{1, 0.1, 1e-4}), {rtol = 1e-3}), pl.diag(pl.tensor{1, 10, 0}))
    near(pl.pinv(pl.zeros(2, 3)), pl.zeros(3, 2), 0)
    -- derivatives: of full rank those of inv and of the normal equations, and at rank 2 those along factors that keep the rank
    local A, C = rng:normal(4, 4), rng:normal(4, 4)
    near_relative(pl.grad(function(p) return pl.sum(C*pl.pinv(p)) end)(A), pl.grad(function(p) return pl.sum(C*pl.inv(p)) end)(A), 1e-11)
    local T, E = rng:normal(5, 3), rng:normal(3, 5)
    local function normal(p) return pl.solve(pl.matmul(t(p), p), t(p)) end
    local g = pl.grad(function(p) return pl.sum(E*pl.pinv(p)) end)
    near_relative(g(T), pl.grad(function(p) return pl.sum(E*normal(p)) end)(T), 1e-11)
    near_relative(t(pl.grad(function(p) return pl.sum(t(E)*pl.pinv(p)) end)(t(T))), g(T), 1e-12)
    local L, R = rng:normal(4, 2), rng:normal(2, 5)
    local function f(p) return pl.sum(pl.sin(pl.pinv(pl.matmul(p[1], p[2])))) end
    pl.check_grad(f, {L, R})
    pl.check_grad(function(p) local d = pl.grad(f)(p); return pl.sum(d[1]^2) + pl.sum(d[2]^2) end, {L, R})

    local M = pl.tensor{{1, -2}, {3, 4}}
    near(pl.matrix_norm(M), math.sqrt(30))
    near(pl.matrix_norm(M, {order = 1}), 6)
    near(pl.matrix_norm(M, {order = math.huge}), 7)
    near(pl.matrix_norm(M, {order = 2}), math.sqrt(15 + 5*math.sqrt(5)))
    near(pl.matrix_norm(M, {nuclear = true}), math.sqrt(15 + 5*math.sqrt(5)) + math.sqrt(15 - 5*math.sqrt(5)))
    near(pl.matrix_norm(pl.stack{M, 2*M}, {order = 1}), {6, 12})
    near(pl.condition_number(M), math.sqrt((15 + 5*math.sqrt(5))/(15 - 5*math.sqrt(5))))
    near(pl.condition_number(M, {order = 1}), 6*0.7)
    near(pl.condition_number(M, {order = math.huge}), 7*0.6)
    near(pl.condition_number(M, {order = 0}), 3)
    assert.are.equal(math.huge, pl.condition_number(pl.tensor{{1, 0}, {0, 0}}):item())
    fails("the order is 1, 2, infinity, or 0", pl.matrix_norm, M, {order = 3})
    fails("the nuclear norm has no order", pl.matrix_norm, M, {order = 2, nuclear = true})
    fails("have no elements", pl.matrix_norm, pl.zeros(0, 3))
    fails("rtol is at least 0 and below 1, not -1", pl.pinv, M, {rtol = -1})
    fails("square matrices are needed", pl.condition_number, pl.ones(2, 3), {order = 1})
    fails("singular", pl.condition_number, pl.ones(2, 2), {order = 1})

    local F = pl.tensor{{1, 1}, {1, 0}} -- Fibonacci's numbers
    near(pl.matrix_power(F, 30), {{1346269, 832040}, {832040, 514229}}, 0)
    near(pl.matrix_power(F, -3), {{-1, 2}, {2, -3}})
    near(pl.matrix_power(pl.stack{F, 2*F}, 0), pl.stack{pl.eye(2), pl.eye(2)}, 0)
    near(pl.grad(function(p) return pl.trace(pl.matrix_power(p, 4)) end)(M), 4*t(pl.matrix_power(M, 3)), 1e-11)
    fails("square matrices are needed, not {2, 3}", pl.matrix_power, pl.ones(2, 3), 2)
    fails("singular", pl.matrix_power, pl.ones(2, 2), -1)
  end)

  it("lstsq: of more rows, of fewer; derivatives with the residual", function()
    near_relative(pl.lstsq(data["fit.A"], pl.ravel(data["fit.b"])), pl.ravel(data["fit.x"]), 1e-13)
    near(pl.lstsq(data["short.A"], data["short.b"]), data["short.x"], 1e-13)
    near(pl.lstsq(pl.tensor{{2, 1}, {1, 3}}, pl.tensor{3, 5}), {0.8, 1.4})
    local S, b = rng:normal(3, 5, 2), rng:normal(5)
    near(pl.lstsq(S, b)(2, ":"), pl.lstsq(S(2, ":", ":"), b))
    near(pl.lstsq(1e-300*S, b)*1e-300, pl.lstsq(S, b), 1e-12)
    assert.are.same({0}, pl.lstsq(pl.zeros(3, 0), pl.ones(3)).shape)
    for _, shape in ipairs{{5, 3}, {3, 5}, {3, 3}} do -- a large residual
      local P = {A = rng:normal(unpack(shape)), b = 10*rng:normal(shape[1], 2)}
      local function direct(p)
        local A = p.A
        if shape[1] < shape[2] then return pl.matmul(t(A), pl.solve(pl.matmul(A, t(A)), p.b)) end
        return pl.solve(pl.matmul(t(A), A), pl.matmul(t(A), p.b))
      end
      local g = pl.grad(function(p) return pl.sum(pl.sin(pl.lstsq(p.A, p.b))) end)(P)
      local h = pl.grad(function(p) return pl.sum(pl.sin(direct(p))) end)(P)
      near_relative(g.A, h.A, 1e-10)
      near_relative(g.b, h.b, 1e-10)
      local function slope(f) return function(p) local d = pl.grad(function(q) return pl.sum(pl.sin(f(q)/20)) end)(p); return pl.sum(d.A^2) + pl.sum(d.b^2) end end
      g, h = pl.grad(slope(function(p) return pl.lstsq(p.A, p.b) end))(P), pl.grad(slope(direct))(P)
      near_relative(g.A, h.A, 1e-8)
      near_relative(g.b, h.b, 1e-8)
    end
    fails("lstsq: the matrix has rank 2 to working accuracy, not 3: multiply by pinv(A)", pl.lstsq, pl.tensor{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}}, pl.ones(4))
    fails("the matrix 2 of 2 has rank 1", pl.lstsq, pl.stack{pl.eye(2), pl.ones(2, 2)}, pl.ones(2))
    fails("has rank 2", pl.lstsq, pl.tensor{{0, 1, 0}, {0, 0, 1}, {0, 0, 0}}, pl.ones(3)) -- a zero diagonal of R
    fails("does not fit", pl.lstsq, pl.ones(3, 2), pl.ones(2))
    fails("lstsq: matrices are needed, not {2}", pl.lstsq, pl.ones(2), pl.ones(2))
    assert.is_true(pl.all(pl.isnan(pl.lstsq(pl.full({3, 2}, nan), pl.ones(3)))))
  end)

  it("eigvals: pairs, order, derivatives of simple ones", function()
    for k = 0, 1 do
      local A, w = data["eig" .. k .. ".A"], data["eig" .. k .. ".w"]
      near(pl.eigvals(A), w, 1e-13)
      -- functions of A alone: the trace of A^3, whose derivative is 3 A'^2, and log |det A|
      local function cubes(p) local z = pl.eigvals(p); return pl.sum(z(":", 1)^3 - 3*z(":", 1)*z(":", 2)^2) end
      near_relative(pl.grad(cubes)(A), 3*t(pl.matmul(A, A)), 1e-12)
      local function log_det(p) local z = pl.eigvals(p); return 0.5*pl.sum(pl.log(z(":", 1)^2 + z(":", 2)^2)) end
      near_relative(pl.grad(log_det)(A), t(pl.inv(A)), 1e-11)
      local E = rng:normal(unpack(A.shape))
      near_relative(pl.hvp(cubes)(A, E), pl.hvp(function(p) return pl.trace(pl.matrix_power(p, 3)) end)(A, E), 1e-11)
    end
    near(pl.eigvals(pl.tensor{{0, -2}, {2, 0}}), {{0, -2}, {0, 2}})
    near(pl.eigvals(pl.tensor{{3, 0}, {9, -1}}), {{-1, 0}, {3, 0}})
    local A = rng:normal(2, 5, 5)
    local function f(p) local z = pl.eigvals(p); return pl.sum(pl.sin(z(":", 1, ":")) + z(":", 2, ":")^2*z(":", 1, ":")) end
    assert.are.same({2, 5, 2}, pl.eigvals(A).shape)
    pl.check_grad(function(p) return pl.sum(pl.sin(pl.eigvals(p))) end, A)
    pl.check_grad(function(p) return pl.sum(pl.grad(f)(p)^2) end, A)
    local symmetric = A(1, ":", ":") + t(A(1, ":", ":"))
    near(pl.eigvals(symmetric)(":", 1), pl.eigvalsh(symmetric), 1e-12)
    local sum = pl.grad(function(p) return pl.sum(pl.eigvals(p)^2) end)
    fails("eigenvalue 1 of the matrix is repeated", sum, pl.eye(3))
    fails("eigenvalue 1 of the matrix is repeated", sum, pl.tensor{{2, 1}, {0, 2}})
    local basis = pl.tensor{{1, 1, 2}, {2, 3, 5}, {3, 7, 11}}
    fails("eigenvalue 1 of the matrix is defective, or too nearly so", sum, pl.matmul(basis, pl.matmul(pl.tensor{{1, 1, 0}, {0, 1, 1}, {0, 0, 1}}, pl.inv(basis))))
    fails("eigvals: square matrices are needed, not {2, 3}", pl.eigvals, pl.ones(2, 3))
    assert.is_true(pl.all(pl.isnan(pl.eigvals(pl.full({2, 2}, nan)))))
  end)

  it("expm", function()
    local condition = {[6] = 2^20, [7] = 30} -- what rounding of A, as far as no zero is known to be one, does to the result
    for k = 0, 7 do near_relative(pl.expm(data["expm" .. k .. ".A"]), data["expm" .. k .. ".Y"], 1e-15*(condition[k] or 1)) end
    near(pl.expm(pl.tensor{{0, -100}, {100, 0}}), {{math.cos(100), -math.sin(100)}, {math.sin(100), math.cos(100)}}, 1e-13)
    near(pl.expm(pl.tensor{{0, 1, 0}, {0, 0, 1}, {0, 0, 0}}*1e8)*1e-16, {{1e-16, 1e-8, 0.5}, {0, 1e-16, 1e-8}, {0, 0, 1e-16}}, 1e-15)
    near(pl.expm(pl.diag(pl.tensor{-800, 1, 0})), pl.diag(pl.tensor{0, math.exp(1), 1}))
    near(pl.expm(pl.zeros(2, 3, 3)), pl.eye(3):broadcast_to(2, 3, 3), 0)
    near(pl.expm(-1e300*pl.eye(2)), pl.zeros(2, 2), 0)
    local A, E = data["along.A"], data["along.E"]
    local y, d = pl.jvp(pl.expm, A, E)
    near_relative(d, data["along.Y"], 1e-14)
    near(y, pl.expm(A), 1e-12)
    -- trace exp is its own derivative, to any order
    local function f(p) return pl.trace(pl.expm(p)) end
    near_relative(pl.grad(f)(A), t(pl.expm(A)), 1e-13)
    near_relative(pl.hvp(f)(A, E), t(data["along.Y"]), 1e-13)
    near_relative(pl.grad(function(p) return pl.sum(pl.grad(f)(p)*E) end)(A), t(data["along.Y"]), 1e-13)
    -- in a compiled fit of a rate matrix
    local target = 2*A
    local function loss(p) return pl.sum((pl.matmul(pl.expm(p*0.5), E) - target)^2) end
    pl.check_grad(loss, A)
    near_relative(pl.grad(pl.compile(loss))(A), pl.grad(loss)(A), 1e-13)
    fails("expm: square matrices are needed, not {2, 3}", pl.expm, pl.ones(2, 3))
    assert.is_true(pl.all(pl.isnan(pl.expm(pl.full({2, 2}, nan)))))
  end)

  it("tridiagonal_solve", function()
    local B = data["three.A"]
    local l, d, u, b = B[1], B[2], B[3], data["three.b"]
    near_relative(pl.tridiagonal_solve(l, d, u, b), data["three.x"], 1e-12)
    near_relative(pl.tridiagonal_solve(l, d, u, b(":", 1)), data["three.x"](":", 1), 1e-12)
    -- -x'' = 1: x = t (1 - t)/2 exactly; many systems side by side give the bits of one
    local n = 50
    local places = pl.arange(1, n)/(n + 1)
    local x = pl.tridiagonal_solve(-1, 2, -1, pl.full({n}, 1/(n + 1)^2))
    near(x, places*(1 - places)/2)
    local L, D, U, R = rng:normal(19, 30), rng:normal(19, 30), rng:normal(19, 30), rng:normal(19, 30)
    local all = pl.tridiagonal_solve(L, D, U, R)
    for i = 1, 19 do
      assert.are.equal(pl.tridiagonal_solve(L[i], D[i], U[i], R[i]):bytes(), all[i]:bytes())
      local M = pl.diag(D[i]) + pl.diag(L[i]("2:-1"), -1) + pl.diag(U[i]("1:-2"), 1)
      near_relative(all[i], pl.solve(M, R[i]), 1e-11)
    end
    local columns = pl.tridiagonal_solve(L[1], D[1], U[1], R:transpose())
    assert.are.equal(pl.tridiagonal_solve(L[1], D[1], U[1], R[7]):bytes(), columns(":", 7):bytes())
    pl.with({threads = 1}, function() assert.are.equal(all:bytes(), pl.tridiagonal_solve(L, D, U, R):bytes()) end)
    local wide = rng:normal(30, 300) -- several blocks of columns
    near(pl.tridiagonal_solve(L[1], D[1], U[1], wide)(":", 290), pl.tridiagonal_solve(L[1], D[1], U[1], wide(":", 290)), 0)
    near(pl.tridiagonal_solve(0, pl.tensor{4}, 0, pl.tensor{2}), {0.5}, 0)
    near(pl.tridiagonal_solve(0, 1e-310, 0, pl.full({9, 3}, 1e-310)), pl.ones(9, 3), 0)
    assert.are.same({0, 3}, pl.tridiagonal_solve(0, 1, 0, pl.zeros(0, 3)).shape)
    assert.are.equal("f32", pl.tridiagonal_solve(-1, 4, -1, pl.ones{5, dtype = "f32"}).dtype)
    -- by every band and the right side; the entries that are not used have derivative 0
    for _, shape in ipairs{{6}, {9, 4}, {2, 4, 3}} do
      local bands = #shape == 3 and {2, 4} or shape
      local P = {l = rng:normal(unpack(bands)), d = rng:normal(unpack(bands)) + 4, u = rng:normal(unpack(bands)), b = rng:normal(unpack(shape))}
      local function f(p) return pl.sum(pl.sin(pl.tridiagonal_solve(p.l, p.d, p.u, p.b))) end
      pl.check_grad(f, P)
      pl.check_grad(function(p) local g = pl.grad(f)(p); return pl.sum(g.l^2) + pl.sum(g.u*g.d) + pl.sum(g.b^2) end, P)
      assert.are.equal(0, pl.sum(pl.abs(pl.grad(f)(P).l(unpack(#bands == 2 and {":", 1} or {"1:1"})))):item())
    end
    fails("tridiagonal_solve: the 2 x 2 matrix is singular", pl.tridiagonal_solve, 1, pl.tensor{1, 1}, 1, pl.ones(2))
    fails("the 3 x 3 matrix 3 of 9 is singular", pl.tridiagonal_solve, 0, pl.stack{pl.ones(9), pl.ones(9), pl.arange(1, 9) - 3}:transpose(), 0, pl.ones(9, 3))
    fails("the bands broadcast to the right side's shape", pl.tridiagonal_solve, pl.ones(4), pl.ones(4), pl.ones(4), pl.ones(5))
    fails("or one more axis", pl.tridiagonal_solve, pl.ones(2, 4), pl.ones(4), pl.ones(4), pl.ones(4))
    assert.is_true(pl.all(pl.isnan(pl.tridiagonal_solve(1, nan, 1, pl.ones(3)))))
  end)

  it("banded_solve", function()
    local ab, b = data["band.A"], data["band.b"]
    local widths = {lower = 2, upper = 1}
    near_relative(pl.banded_solve(ab, b, widths), data["band.x"], 1e-12)
    near_relative(pl.banded_solve(ab, b(":", 2), widths), data["band.x"](":", 2), 1e-12)
    near_relative(pl.banded_solve(pl.stack{ab, 2*ab}, b, widths)[2], data["band.x"]/2, 1e-12)
    -- the same as with three bands, each in its columns
    local l, d, u, r = rng:normal(2, 8), rng:normal(2, 8) + 4, rng:normal(2, 8), rng:normal(2, 8, 1)
    local three = pl.stack({pl.roll(u, 1, 2), d, pl.roll(l, -1, 2)}, {axis = 2})
    near(pl.banded_solve(three, r, {lower = 1, upper = 1}), pl.tridiagonal_solve(l, d, u, r))
    near(pl.banded_solve(pl.full({1, 3}, 2), pl.ones(3), {lower = 0, upper = 0}), {0.5, 0.5, 0.5}, 0)
    near(pl.banded_solve(pl.ones(5, 1), pl.ones(1), {lower = 2, upper = 2}), {1}, 0) -- more bands than the matrix has
    local P = {a = rng:normal(4, 6) + pl.tensor{0, 4, 0, 0}:reshape(4, 1), b = rng:normal(6, 2)}
    local function f(p) return pl.sum(pl.sin(pl.banded_solve(p.a, p.b, widths))) end
    pl.check_grad(f, P)
    pl.check_grad(function(p) local g = pl.grad(f)(p); return pl.sum(g.a^3) + pl.sum(g.b^2) end, P)
    fails("banded_solve: the 4 x 4 matrix is singular", pl.banded_solve, pl.zeros(3, 4), pl.ones(4), {lower = 1, upper = 1})
    fails("the bands are {..., lower + upper + 1, n}", pl.banded_solve, pl.ones(3, 4), pl.ones(4), widths)
    fails("as many rows as the bands have columns", pl.banded_solve, pl.ones(4, 4), pl.ones(5), widths)
    fails("lower is missing", pl.banded_solve, pl.ones(3, 4), pl.ones(4))
    assert.is_true(pl.all(pl.isnan(pl.banded_solve(pl.full({3, 4}, nan), pl.ones(4), {lower = 1, upper = 1}))))
  end)

  it("mapped and compiled: the same numbers", function()
    local S = rng:normal(3, 4, 4)
    for _, name in ipairs{"qr", "svdvals", "pinv", "expm", "eigvals"} do
      near(pl.map(function(A) return (pl[name](A)) end, S), (pl[name](S)), 1e-13)
      assert.are.equal((pl[name](S)):bytes(), pl.compile(function(A) return (pl[name](A)) end)(S):bytes())
    end
  end)
end)
