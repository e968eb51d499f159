-- A few eigenpairs of sparse symmetric matrices: closed forms and dense algebra, multiple eigenvalues, derivatives, errors.
local pl = require "perilune"
local sparse = pl.sparse

local expect = require "tests.expect"
local near = expect.near
local fails = expect.fails

local rng = pl.rng(2)
local function chain(n) return sparse.diags({-1, 2, -1}, {-1, 0, 1}, n) end
local function exact(n, k) return 2 - 2*pl.cos(pl.arange(1, k)*(math.pi/(n + 1))) end

describe("eigsh", function()
  it("gives the closed forms of a chain", function()
    local n = 400
    local A = chain(n)
    local w, V = sparse.eigsh(A, 6)
    near(w, exact(n, 6), 1e-14)
    near(V.T:matmul(V), pl.eye(6), 1e-12)
    near(A*V, V*w, 1e-12)
    near((A:eigsh(5, {which = "largest", iterations = 2000})), exact(n, n)("396:400"), 1e-12)
    near((A:eigsh(4, {sigma = 1.0003})), exact(n, n)("132:135"), 1e-12)
    local indefinite = A - 0.5*sparse.eye(n)
    near((indefinite:eigsh(3)), exact(n, 3) - 0.5, 1e-12)
    near((chain(20):eigsh(20)), exact(20, 20), 1e-13)
    local M = sparse.diags({1/6, 2/3, 1/6}, {-1, 0, 1}, n)
    local t = pl.arange(1, 5)*(math.pi/(n + 1))
    local q, Q = A:eigsh(5, {M = M})
    near(q, (2 - 2*pl.cos(t))/((2 + pl.cos(t))/3), 1e-13)
    near(Q.T:matmul(M*Q), pl.eye(5), 1e-12)
    near((A:eigsh(3, {M = M, which = "largest", iterations = 3000})),
      pl.stack{pl.tensor(398), pl.tensor(399), pl.tensor(400)}*0 + (function()
        local s = pl.tensor{398, 399, 400}*(math.pi/(n + 1))
        return (2 - 2*pl.cos(s))/((2 + pl.cos(s))/3)
      end)(), 1e-9)
  end)

  it("finds each of equal eigenvalues, and those of a free body", function()
    local m = 15
    local A = sparse.kron(chain(m), sparse.eye(m)) + sparse.kron(sparse.eye(m), chain(m))
    local one = exact(m, m)
    local all = pl.sort((one:reshape(m, 1) + one):ravel())
    for _, k in ipairs{1, 2, 3, 6, 12} do
      local w, V = A:eigsh(k)
      near(w, all(pl.arange(1, k)), 1e-12)
      near(A*V, V*w, 1e-11)
    end
    local I = sparse.eye(4)
    near((sparse.kron(chain(40), I):eigsh(9)), pl.stack({exact(40, 3), exact(40, 3), exact(40, 3), exact(40, 3)}, 2):ravel()("1:9"), 1e-13)
    local free = sparse.diags({1, -1}, {0, 1}, {99, 100}):gram(1)
    near((free:eigsh(3)), 2 - 2*pl.cos(pl.arange(0, 2)*(math.pi/100)), 1e-12)
  end)

  it("has derivatives of values and vectors, to second order, compiled too", function()
    local n = 80
    local D = sparse.diags({1, -1}, {0, -1}, {n + 1, n})
    local p = {k = 1 + rng:uniform(n + 1), m = 1 + rng:uniform(n)}
    local c = rng:normal(n, 3)
    for _, options in ipairs{{}, {sigma = 0.9}} do
      local function loss(q)
        local w, V = D:gram(q.k):eigsh(3, {M = sparse.diag(q.m), sigma = options.sigma})
        return pl.sum(pl.log(w)) + pl.sum(V*c)
      end
      pl.check_grad(loss, p, {order = 2})
      local compiled = pl.compile(loss)
      assert.are.equal(loss(p):item(), compiled(p):item())
      near(pl.grad(compiled)(p).k, pl.grad(loss)(p).k, 1e-9)
    end
    -- dense algebra's
    local function dense(q) return pl.sum(pl.eigvalsh(D:gram(q):dense())("1:3")^2) end
    local function few(q) return pl.sum((D:gram(q):eigsh(3))^2) end
    near(pl.grad(few)(p.k), pl.grad(dense)(p.k), 1e-12)
  end)

  it("of equal eigenvalues: what does not turn with the vectors is differentiated, the rest is an error", function()
    local m = 9
    local A = sparse.kron(chain(m), sparse.eye(m)) + sparse.kron(sparse.eye(m), chain(m))
    local d = rng:normal(m*m)
    local C = rng:normal(m*m, m*m)
    C = C + C.T
    local function at(t) return A + t*sparse.diag(d) end
    local function projector(t)
      local _, V = at(t):eigsh(3) -- 1, 2, 2
      return pl.sum(V*C:matmul(V))
    end
    local h = 1e-5
    local slope = (projector(pl.tensor(h)) - projector(pl.tensor(-h)))/(2*h)
    near(pl.grad(projector)(pl.tensor(0.0)), slope, 1e-5*pl.abs(slope):item() + 1e-6)
    local function vectors(t)
      local _, V = at(t):eigsh(3)
      return pl.sum(V*pl.ones(m*m, 3):at(4):set(3))
    end
    fails("coincide", pl.grad(vectors), pl.tensor(0.0))
    local function cut(t)
      local _, V = at(t):eigsh(2)
      return pl.sum(V(":", 2)^4)
    end
    fails("coincide", pl.grad(cut), pl.tensor(0.0))
  end)

  it("errors", function()
    local A = chain(200)
    fails("not square", function() sparse.diags({1}, {0}, {3, 4}):eigsh(1) end)
    fails("not symmetric", function() sparse.diags({1, 2}, {0, 1}, 200):eigsh(2) end)
    fails("0 eigenvalues", A.eigsh, A, 0)
    fails("not 'best'", A.eigsh, A, 2, {which = "best"})
    fails("exclude each other", A.eigsh, A, 2, {which = "largest", sigma = 1})
    fails("no option 'tol'", A.eigsh, A, 2, {tol = 1})
    fails("converged", A.eigsh, A, 4, {which = "largest", iterations = 1})
    fails("M is not positive definite", A.eigsh, A, 2, {M = sparse.diags({-1}, {0}, 200)})
    fails("entry in row 3", A.eigsh, A + sparse.triplets({3}, {3}, {0/0}, 200), 2)
    fails("{200, 200} and {3, 3}", A.eigsh, A, 2, {M = sparse.eye(3)})
    fails("M is a sparse matrix, not a number", A.eigsh, A, 2, {M = 3})
    fails("sparse matrix", sparse.eigsh, pl.eye(3), 1)
  end)
end)
