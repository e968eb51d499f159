-- Dense linear algebra against closed forms and identities; stacks; errors.
local pl = require "perilune"

local function near(a, b, tolerance)
  local d = pl.max(pl.abs(pl.tensor(a) - pl.tensor(b))):item()
  assert.is_true(d <= (tolerance or 1e-13), ("%g apart"):format(d))
end
local function fails(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(text, 1, true), message)
end
local function hilbert(n)
  local i = pl.arange(1, n)
  return 1/(i:reshape(n, 1) + i - 1)
end

describe("dense linear algebra", function()
  local rng = pl.rng(2)
  it("solve: vectors, matrices, stacks", function()
    local A = pl.tensor{{0, 2}, {1, 3}} -- needs a pivot
    near(pl.solve(A, pl.tensor{4, 5}), {-1, 2})
    near(pl.solve(A, pl.eye(2)), {{-1.5, 1}, {0.5, 0}})
    local S, b = rng:normal(3, 2, 6, 6) + 4*pl.eye(6), rng:normal(3, 2, 6, 2)
    near(pl.matmul(S, pl.solve(S, b)), b)
    local v = rng:normal(6)
    near(pl.matmul(S, pl.solve(S, v):reshape(3, 2, 6, 1)):reshape(3, 2, 6), v:broadcast_to(3, 2, 6))
    near(pl.matmul(S(1, 1, ":", ":"), pl.solve(S(1, 1, ":", ":"), b)(2, 1, ":", ":")), b(2, 1, ":", ":"))
    -- accuracy: the residual is small whatever the condition
    local H = hilbert(10)
    near(pl.matmul(H, pl.solve(H, pl.ones(10))), pl.ones(10), 1e-8)
    near(pl.matmul(pl.ones(1, 1)*3, pl.solve(pl.ones(1, 1)*3, pl.tensor({6}, {dtype = "i64"}))), {6})
    assert.are.equal("f32", pl.solve(A:to("f32"), pl.ones{2, dtype = "f32"}).dtype)
    fails("singular: pivot 2", pl.solve, pl.tensor{{1, 2}, {2, 4}}, pl.ones(2))
    fails("matrix 2 of 2 is singular", pl.solve, pl.stack{pl.eye(2), pl.zeros(2, 2)}, pl.ones(2))
    fails("square matrices are needed, not {2, 3}", pl.solve, pl.ones(2, 3), pl.ones(2))
    fails("does not fit", pl.solve, A, pl.ones(3))
  end)

  it("cholesky and triangular_solve", function()
    near(pl.cholesky(pl.tensor{{4, 12, -16}, {12, 37, -43}, {-16, -43, 98}}), {{2, 0, 0}, {6, 1, 0}, {-8, 5, 3}})
    local B = rng:normal(2, 5, 5)
    local A = pl.matmul(B, pl.transpose(B, {1, 3, 2})) + pl.eye(5)
    local L, b = pl.cholesky(A), rng:normal(5)
    near(pl.matmul(L, pl.transpose(L, {1, 3, 2})), A, 1e-12)
    local y = pl.triangular_solve(L, b)
    near(pl.triangular_solve(L, y:reshape(2, 5, 1), {transpose = true})(":", ":", 1), pl.solve(A, b), 1e-12)
    near(pl.triangular_solve(pl.tensor{{2, 1}, {9, 4}}, pl.tensor{4, 8}, {upper = true}), {1, 2}) -- the 9 is not read
    fails("not positive definite: its leading 2 x 2", pl.cholesky, pl.tensor{{1, 2}, {2, 1}})
    fails("diagonal entry 2 is zero", pl.triangular_solve, pl.tensor{{1, 0}, {3, 0}}, pl.ones(2))
  end)

  it("det, slogdet, inv", function()
    near(pl.det(pl.tensor{{0, 2}, {1, 3}}), -2)
    near(pl.det(hilbert(4)), 1/6048000, 1e-19)
    local s, l = pl.slogdet(-2*pl.eye(301))
    assert.are.equal(-1, s:item())
    near(l, 301*math.log(2), 1e-11)
    s, l = pl.slogdet(pl.tensor{{1, 2}, {2, 4}})
    assert.are.same({0, -math.huge, 0}, {s:item(), l:item(), pl.det(pl.tensor{{1, 2}, {2, 4}}):item()})
    near(pl.det(pl.zeros(3, 0, 0)), {1, 1, 1})
    near(pl.inv(pl.tensor{{1, 2}, {3, 4}}), {{-2, 1}, {1.5, -0.5}})
    local S = rng:normal(4, 3, 3) + 3*pl.eye(3)
    near(pl.matmul(S, pl.inv(S)), pl.eye(3):broadcast_to(4, 3, 3))
    fails("singular", pl.inv, pl.zeros(2, 2))
  end)

  it("eigh and eigvalsh", function()
    local w, V = pl.eigh(pl.tensor{{2, 1}, {1, 2}})
    near(w, {1, 3})
    near(V, {{math.sqrt(0.5), math.sqrt(0.5)}, {-math.sqrt(0.5), math.sqrt(0.5)}})
    -- the second difference matrix: 2 - 2 cos(k pi/(n + 1))
    local n = 40
    local D = pl.diag(2*pl.ones(n)) - pl.diag(pl.ones(n - 1), 1) - pl.diag(pl.ones(n - 1), -1)
    near(pl.eigvalsh(D), 2 - 2*pl.cos(math.pi*pl.arange(1, n)/(n + 1)))
    local B = rng:normal(2, 3, 5, 5)
    local A = B + pl.transpose(B, {1, 2, 4, 3})
    local x, U = pl.eigh(A)
    near(pl.matmul(A, U), U*x:reshape(2, 3, 1, 5), 1e-12)
    near(pl.matmul(pl.transpose(U, {1, 2, 4, 3}), U), pl.eye(5):broadcast_to(2, 3, 5, 5))
    local S, C, e = A(1, 1, ":", ":"), rng:normal(5, 5), rng:normal(5)
    pl.check_grad(function(p) local l, Q = pl.eigh(p); return pl.sum(Q*C) + pl.sum(l*e) + pl.sum(Q*l*pl.sin(Q)) end, S)
    -- a function of a matrix: exp(S) by its eigenvalues, whose derivative along itself is exp(S) S
    local function exponential(p) local l, Q = pl.eigh(p); return pl.matmul(Q*pl.exp(l), Q:transpose()) end
    local series, term = pl.eye(5), pl.eye(5)
    for k = 1, 60 do term = pl.matmul(term, S)/k; series = series + term end
    near(exponential(S)/pl.max(series), series/pl.max(series), 1e-12)
    local _, d = pl.jvp(exponential, S, S)
    near(d/pl.max(series), pl.matmul(series, S)/pl.max(series), 1e-11)
    -- equal eigenvalues: their sum has a derivative, their vectors have none
    near(pl.grad(function(p) return pl.sum(pl.eigvalsh(p)^2) end)(2*pl.eye(3)), 4*pl.eye(3))
    fails("eigenvalues 1 and 2 coincide (2)", pl.grad(function(p) local _, Q = pl.eigh(p); return pl.sum(Q*C("1:3", "1:3")) end), 2*pl.eye(3))
    assert.is_true(pl.all(pl.isnan(pl.eigvalsh(pl.full({2, 2}, 0/0)))))
    assert.is_true(pl.isnan(pl.cholesky(pl.full({2, 2}, 0/0))):item(2, 1))
    fails("square matrices are needed, not {3}", pl.eigh, pl.ones(3))
  end)

  it("derivatives, alone and in a likelihood that is compiled, mapped and repeated", function()
    local x = pl.linspace(0, 1, 8)
    local d = (x:reshape(8, 1) - x)^2
    local y = pl.sin(6*x)
    local function likelihood(p) -- of a Gaussian process
      local K = p.s^2*pl.exp(-d/(2*p.l^2)) + p.e^2*pl.eye(8)
      local L = pl.cholesky(K)
      local a = pl.triangular_solve(L, y)
      return 0.5*pl.sum(a^2) + pl.sum(pl.log(pl.diagonal(L)))
    end
    local function direct(p)
      local K = p.s^2*pl.exp(-d/(2*p.l^2)) + p.e^2*pl.eye(8)
      local _, l = pl.slogdet(K)
      return 0.5*pl.dot(y, pl.solve(K, y)) + 0.5*l
    end
    local P = {s = 1.2, l = 0.3, e = 0.2}
    near(likelihood(P), direct(P), 1e-12)
    local g, h = pl.grad(likelihood)(P), pl.grad(direct)(P)
    for k in pairs(P) do near(g[k], h[k], 1e-10) end
    pl.check_grad(likelihood, P)
    pl.check_grad(direct, P)
    assert.are.equal(pl.compile(likelihood)(P):item(), likelihood(P):item())
    local c = pl.grad(pl.compile(likelihood))(P)
    for k in pairs(P) do near(g[k], c[k], 1e-12) end
    local S, b = rng:normal(3, 4, 4) + 3*pl.eye(4), rng:normal(4)
    near(pl.map(function(A) return pl.solve(A, b) end, S), pl.solve(S, b))
    pl.check_grad(function(A) return pl.sum(pl.scan(function(u) return pl.solve(A, u) end, b, 3)^2) end, S(1, ":", ":"))
    pl.check_grad(function(A) return pl.det(A) + pl.sum(pl.inv(A)) end, S(2, ":", ":"))
    -- the same bits on any number of threads
    local two = pl.solve(S, b)
    pl.with({threads = 1}, function() assert.are.equal(two:bytes(), pl.solve(S, b):bytes()) end)
  end)
end)

describe("factorizations", function()
  local rng = pl.rng(11)
  local function apart(a, b) return pl.max(pl.abs(a - b)):item() end
  it("qr: orthonormal columns, upper triangle, positive diagonal", function()
    for _, shape in ipairs {{5, 3}, {4, 4}, {3, 5}, {2, 6, 3}} do
      local A = rng:normal(shape)
      local Q, R = pl.qr(A)
      local n = Q.shape[#Q.shape]
      assert.is_true(apart(Q:matmul(R), A) < 1e-14)
      assert.is_true(apart(pl.einsum(#shape == 3 and "bij,bik->bjk" or "ij,ik->jk", Q, Q), pl.eye(n)) < 1e-14)
      assert.are.equal(0, pl.max(pl.abs(pl.tril(R, -1))):item())
      assert.is_true(pl.min(pl.diagonal(R)):item() > 0)
    end
  end)
  it("lu: P L U = A", function()
    local A = rng:normal(2, 4, 4)
    local P, L, U = pl.lu(A)
    assert.is_true(apart(P:matmul(L):matmul(U), A) < 1e-14)
    assert.are.equal(0, pl.max(pl.abs(pl.triu(L, 1))):item())
    assert.are.equal(0, pl.max(pl.abs(pl.tril(U, -1))):item())
  end)
  it("lstsq: the residual is orthogonal to the columns, the least norm lies in the rows; rank deficiency is an error", function()
    local A, b = rng:normal(7, 3), rng:normal(7)
    local x = pl.lstsq(A, b)
    assert.is_true(pl.max(pl.abs(A.T:matmul(A:matmul(x) - b))):item() < 1e-13)
    local B, c = rng:normal(3, 7), rng:normal(3)
    local y = pl.lstsq(B, c)
    assert.is_true(apart(B:matmul(y), c) < 1e-13)
    assert.is_true(apart(y, B.T:matmul(pl.solve(B:matmul(B.T), c))) < 1e-13)
    assert.is_true(pl.check_grad(function(p) return pl.sum(pl.lstsq(p.A, p.b)^2) end, {A = A, b = b}).gradient > 1.9)
    local ok, message = pcall(pl.lstsq, pl.ones(4, 2), pl.ones(4))
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("rank", 1, true), message)
  end)
end)
