-- Determinants of sparse matrices and the inverse on their pattern, against dense algebra; derivatives; errors.
local pl = require "perilune"
local sparse = pl.sparse

local expect = require "tests.expect"
local near = expect.near

local rng = pl.rng(11)
local n = 30
local wide = sparse.diags({0.3*rng:normal(n - 7), -rng:normal(n - 1), 3*rng:normal(n), rng:normal(n - 1), 0.2}, {-7, -1, 0, 1, 11}, n)
local d = sparse.diags({1, -1}, {0, -1}, {6, 5})
local G, H = sparse.kron(d, sparse.eye(5)), sparse.kron(sparse.eye(5), d)
local w = {x = 1 + rng:uniform(30), y = 1 + rng:uniform(30)}
local function grid(p) return G:gram(p.x) + H:gram(p.y) end

describe("logdet", function()
  local function check(A, options)
    local sign, log = A:slogdet(options)
    local dense_sign, dense_log = pl.slogdet(A:dense())
    near(log, dense_log, 1e-11)
    assert.are.equal(dense_sign:item(), sign:item())
    assert.are.equal(log:item(), A:factor(options):logdet():item())
    -- its gradient: the inverse, transposed, on the pattern
    local g = pl.grad(function(v) return sparse.with_values(A, v):logdet(options) end)(A.values*1)
    local inverse = pl.inv(A:dense())
    local i, j = A:entries()
    near(g, inverse.T:ravel()((i - 1)*A.shape[2] + j), 1e-11)
  end

  it("and its gradient agree with dense algebra, by each method", function()
    for _, method in ipairs{"klu", "umfpack", "banded", "dense"} do
      check(wide, {method = method})
      check(grid(w) - 2*sparse.eye(25), {method = method})
    end
    local three = sparse.diags({rng:normal(n - 1), rng:normal(n), rng:normal(n - 1)}, {-1, 0, 1}, n)
    check(three, {})
    for _, options in ipairs{{definite = true}, {method = "ldl"}, {}, {definite = true, method = "banded"}, {definite = true, method = "dense"}} do
      check(grid(w), options)
    end
    check(grid(w) - 2*sparse.eye(25), {method = "ldl"})
    -- permutations, blocks that meet in one direction only
    local order = rng:permutation(n)
    check(sparse.triplets(order, pl.arange(1, n), rng:normal(n), n) + sparse.triplets({4, 9}, {20, 3}, {0.1, 0.2}, n), {method = "klu"})
    check(sparse.block{{wide, sparse.diags({1}, {3}, n)}, {0, wide.T}}, {method = "klu"})
    near(wide.T:logdet(), wide:logdet(), 1e-12)
  end)

  it("by supernodes", function()
    local m = 40
    local e = sparse.diags({1, -1}, {0, -1}, {m + 1, m})
    local A = sparse.kron(e, sparse.eye(m)):gram(1) + sparse.kron(sparse.eye(m), e):gram(1)
    local k = (pl.arange(1, m)*(math.pi/(m + 1)))
    local lambda = 2 - 2*pl.cos(k)
    near(A:logdet{definite = true}, pl.sum(pl.log(lambda:reshape(m, 1) + lambda)), 1e-9)
    local g = pl.grad(function(s) return (s*A):logdet{definite = true} end)(pl.tensor(2.0))
    near(g, m*m/2, 1e-8)
  end)

  it("has derivatives to second order, compiled too", function()
    local function loss(p) return grid(p):logdet{definite = true}^2 + (grid(p) - 2*sparse.eye(25)):logdet{method = "klu"} end
    pl.check_grad(loss, w, {order = 2})
    local function general(v) return sparse.with_values(wide, v):factor():logdet() end
    pl.check_grad(general, wide.values*1, {order = 2})
    local compiled = pl.compile(loss)
    assert.are.equal(loss(w):item(), compiled(w):item())
    near(pl.grad(compiled)(w).x, pl.grad(loss)(w).x, 1e-12)
    -- log det and a solve by one factor
    pl.check_grad(function(p)
      local F = grid(p):factor{definite = true}
      return F:logdet() + pl.sum(F:solve(pl.ones(25))^2)
    end, w, {order = 2})
  end)

  it("errors", function()
    local function fails(text, f, ...)
      local ok, message = pcall(f, ...)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    end
    fails("not square", G.logdet, G)
    fails("singular at row", function() return (wide*0):logdet() end)
    local three = sparse.diags({-1, 3, -1}, {-1, 0, 1}, 400000)
    local function big(v) return (v*three):logdet{method = "klu"} end
    fails("too many", pl.hvp(big), pl.tensor(4.0), pl.tensor(1.0))
  end)
end)
