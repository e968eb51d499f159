-- Direct solves with sparse matrices: each method against dense algebra, the choice of one, derivatives, errors.
local pl = require "perilune"
local sparse = pl.sparse

local expect = require "tests.expect"
local near = expect.near

local function fails(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
  assert.are.equal(2, (pl.ones(2) + 1):item(2)) -- the session goes on
end

local rng = pl.rng(3)
local n = 40
local D = sparse.diags({1, -1}, {0, -1}, {n + 1, n})
local function grid(m) -- D'D (x) I + I (x) D'D on m x m nodes, with a weight for each edge
  local d = sparse.diags({1, -1}, {0, -1}, {m + 1, m})
  local G, H = sparse.kron(d, sparse.eye(m)), sparse.kron(sparse.eye(m), d)
  return function(w) return G:gram(w.x) + H:gram(w.y) end, {x = 1 + rng:uniform((m + 1)*m), y = 1 + rng:uniform((m + 1)*m)}
end
local wide = sparse.diags({0.3, -1, 4, -0.5, 0.2}, {-9, -1, 0, 1, 12}, n)
local tridiagonal = sparse.diags({-1, 3, -0.5}, {-1, 0, 1}, n)
local banded = sparse.diags({0.3, -1, 4, -0.5, 0.2}, {-2, -1, 0, 1, 3}, n)
local laplace = D:gram(1 + rng:uniform(n + 1))

describe("methods", function()
  local b, B = rng:normal(n), rng:normal(n, 3)
  local function check(A, options, name)
    local F = A:factor(options)
    assert.are.equal(name, (F:solver()))
    assert.are.equal(name, (A:solver(options)))
    local M = A:dense()
    near(F:solve(b), pl.solve(M, b), 1e-12)
    near(F:solve(B, {transpose = true}), pl.solve(M.T, B), 1e-12)
    near(A:solve(B, options), pl.solve(M, B), 1e-12)
  end

  it("agree with dense algebra", function()
    for _, name in ipairs{"KLU", "UMFPACK", "banded", "dense"} do
      check(wide, {method = name:lower()}, name)
      check(tridiagonal, {method = name:lower()}, name)
    end
    check(tridiagonal, {method = "tridiagonal"}, "tridiagonal")
    for _, name in ipairs{"CHOLMOD", "LDL", "tridiagonal", "banded", "dense"} do
      check(laplace, {method = name:lower()}, name)
      if name ~= "CHOLMOD" and name ~= "LDL" then check(laplace, {method = name:lower(), definite = true}, name) end
    end
  end)

  it("are chosen by structure and values", function()
    assert.are.equal("tridiagonal", (tridiagonal:solver()))
    assert.are.equal("banded", (banded:solver()))
    assert.are.equal("KLU", (wide:solver()))
    assert.are.equal("dense", (sparse.eye(5):solver()))
    local A, w = grid(20)
    local K = A(w)
    local name, why = K:solver()
    assert.are.equal("CHOLMOD", name)
    assert.is_truthy(why:find "symmetric")
    assert.are.equal("CHOLMOD", (K:solver{definite = true}))
    -- indefinite: Cholesky is tried and left
    local shifted = K - 3.3*sparse.eye(400)
    assert.are.equal("KLU", (shifted:solver()))
    local f = rng:normal(400)
    near(shifted:solve(f), pl.solve(shifted:dense(), f), 1e-9)
    near(shifted:solve(f, {symmetric = true}), pl.solve(shifted:dense(), f), 1e-9)
    assert.are.equal("CHOLMOD", (K:factor{symmetric = true}:solver()))
    assert.are.equal("factor of a sparse matrix {400, 400} by CHOLMOD", tostring(K:factor()))
  end)

  it("LDL' gives way to LU where it needs pivots", function()
    -- a saddle point with a zero block; and one whose pivots are tiny
    local C = sparse.diags({1, -1}, {0, 1}, {20, 30})
    local function saddle(e)
      local i, j, v = C:entries()
      local rows = pl.concat{pl.arange(1, 30), i + 30, j, pl.arange(31, 50)}
      local cols = pl.concat{pl.arange(1, 30), j, i + 30, pl.arange(31, 50)}
      return sparse.triplets(rows, cols, pl.concat{e*pl.ones(30), v, v, pl.zeros(20)}, 50, 50)
    end
    local f = rng:normal(50)
    for _, e in ipairs{1, 1e-14} do
      local S = saddle(e)
      local x = S:solve(f, {symmetric = true})
      near(S*x, f, 1e-8*pl.max(pl.abs(x)):item())
    end
    assert.is_truthy(saddle(1e-14):solver{symmetric = true} ~= "LDL")
    fails("pivot", saddle(1e-14).solve, saddle(1e-14), f, {method = "ldl"})
  end)
end)

describe("derivatives", function()
  it("in the entries and the right-hand side, to second order", function()
    local x = {v = 0.1*rng:normal(wide.nnz), b = rng:normal(n, 2)}
    for _, method in ipairs{"klu", "umfpack", "banded", "dense"} do
      for _, transpose in ipairs{false, true} do
        local function loss(p)
          local A = sparse.with_values(wide, wide.values + p.v)
          return pl.sum(pl.sin(A:solve(p.b, {method = method, transpose = transpose})))
        end
        pl.check_grad(loss, x, {order = 2})
      end
    end
  end)

  it("by symmetric methods, compiled too", function()
    local A, w = grid(5)
    local b = rng:normal(25)
    local shift = 1.7*sparse.eye(25)
    for _, options in ipairs{{definite = true}, {method = "ldl"}, {}, {definite = true, method = "banded"}, {definite = true, method = "dense"}} do
      local function loss(p)
        local K = A(p)
        return pl.sum(K:solve(b, options)^2) + (options.method == "ldl" and pl.sum((K - shift):solve(b, options)^2) or 0)
      end
      pl.check_grad(loss, w, {order = 2})
      local compiled = pl.compile(loss)
      assert.are.equal(loss(w):item(), compiled(w):item())
      near(pl.grad(compiled)(w).x, pl.grad(loss)(w).x, 0)
    end
  end)

  it("through a factor that loops and compiled functions use again", function()
    local b = rng:normal(n)
    local function walk(k)
      local A = sparse.diags({-1, 2 + k, -0.5}, {-1, 0, 1}, n)
      local F = A:factor{method = "klu"}
      return F, A
    end
    local function by_scan(k)
      local F = walk(k)
      local u = pl.scan(function(u) return F:solve(u + b) end, pl.zeros(n), 6)
      return pl.sum(u^2) + pl.sum(F:solve(b, {transpose = true})*b)
    end
    local function by_loop(k)
      local _, A = walk(k)
      local u = pl.zeros(n)
      for _ = 1, 6 do u = A:solve(u + b, {method = "klu"}) end
      return pl.sum(u^2) + pl.sum(A:solve(b, {transpose = true, method = "klu"})*b)
    end
    local k = pl.tensor(1.3)
    assert.are.equal(by_loop(k):item(), by_scan(k):item())
    near(pl.grad(by_scan)(k), pl.grad(by_loop)(k), 1e-12)
    pl.check_grad(by_scan, k, {order = 2})
    local F = walk(1.3)
    local inside = pl.compile(function(v) return pl.sum(F:solve(v)^2) end)
    near(pl.grad(inside)(b), 2*F:solve(F:solve(b), {transpose = true}), 1e-13)
    local compiled = pl.compile(by_scan)
    assert.are.equal(by_scan(k):item(), compiled(k):item())
    near(pl.grad(compiled)(k), pl.grad(by_scan)(k), 1e-13)
  end)
end)

describe("fixed unknowns", function()
  local A, w = grid(5)
  local b, B = rng:normal(25), rng:normal(25, 2)
  local fixed, free = {1, 7, 25, 3}, {}
  for k = 1, 25 do if k ~= 1 and k ~= 7 and k ~= 25 and k ~= 3 then free[#free + 1] = k end end
  local function reference(M, rhs, g) -- dense, by blocks
    local f, c = pl.tensor(free):to "i64", pl.tensor(fixed):to "i64"
    local u = pl.solve(M(f, ":")(":", f), rhs(f) - M(f, ":")(":", c):matmul(g))
    return pl.zeros(#rhs):at(f):set(u):at(c):set(g)
  end

  it("are eliminated", function()
    local g = rng:normal(4)
    local K = A(w)
    for _, M in ipairs{K, K + sparse.diags({0.3}, {1}, 25)} do
      near(M:solve(b, {fixed = fixed, value = g}), reference(M:dense(), b, g), 1e-12)
      near(M:solve(b, {fixed = fixed, value = g, transpose = true}), reference(M:dense().T, b, g), 1e-12)
      near(M.T:solve(b, {fixed = fixed, value = g}), reference(M:dense().T, b, g), 1e-12)
      near(M:solve(b, {fixed = fixed}), reference(M:dense(), b, pl.zeros(4)), 1e-12)
      near(M:solve(b, {fixed = pl.tensor(fixed), value = 2}), reference(M:dense(), b, 2*pl.ones(4)), 1e-12)
    end
    local mask = pl.zeros(25):at(pl.tensor(fixed):to "i64"):set(1):gt(0)
    near(K:solve(b, {fixed = mask, value = 2, definite = true}), reference(K:dense(), b, 2*pl.ones(4)), 1e-12)
    local two = K:solve(B, {fixed = fixed, value = g})
    near(two(":", 2), reference(K:dense(), B(":", 2), g), 1e-12)
    local G = rng:normal(4, 2)
    near(K:solve(B, {fixed = fixed, value = G})(":", 1), reference(K:dense(), B(":", 1), G(":", 1)), 1e-12)
    near(K:solve(b, {fixed = pl.arange(1, 25), value = b}), b, 0)
  end)

  it("have derivatives in the matrix, the right-hand side and the values, compiled and in loops", function()
    local function loss(p)
      local x = A(p):solve(p.b, {fixed = fixed, value = p.g, definite = true})
      return pl.sum(x^2) + pl.sum(A(p):solve(p.b, {fixed = fixed, value = p.s, method = "klu"})^3)
    end
    local p = {x = w.x, y = w.y, b = b*1, g = rng:normal(4), s = 0.4}
    pl.check_grad(loss, p, {order = 2})
    local compiled = pl.compile(loss)
    assert.are.equal(loss(p):item(), compiled(p):item())
    near(pl.grad(compiled)(p).x, pl.grad(loss)(p).x, 1e-13)
    local function walk(q) return pl.sum(pl.scan(function(u) return A(q):solve(u + b, {fixed = fixed, value = q.s}) end, b, 3)^2) end
    local function steps(q)
      local u = b
      for _ = 1, 3 do u = A(q):solve(u + b, {fixed = fixed, value = q.s}) end
      return pl.sum(u^2)
    end
    near(pl.grad(walk)(p).x, pl.grad(steps)(p).x, 1e-12)
  end)

  it("errors", function()
    local K = A(w)
    fails("twice", K.solve, K, b, {fixed = {1, 1}})
    fails("26", K.solve, K, b, {fixed = {26}})
    fails("are one number, {4}", K.solve, K, b, {fixed = fixed, value = pl.ones(3)})
    fails("mask of fixed unknowns has 3 entries", K.solve, K, b, {fixed = pl.ones(3):gt(0)})
    fails("length 3", K.solve, K, pl.ones(3), {fixed = fixed})
    fails("goes with `fixed`", K.solve, K, b, {value = 1})
    fails("counted among the free unknowns", K.solve, K - 3*sparse.eye(25), b, {fixed = fixed, definite = true})
    fails("must not depend on its arguments", pl.compile(function(f) return K:solve(b, {fixed = f}) end), pl.tensor{1, 2})
  end)
end)

describe("null spaces", function()
  local m = 6
  local d = sparse.diags({1, -1}, {1, 0}, {m - 1, m})
  local G, H = sparse.kron(d, sparse.eye(m)), sparse.kron(sparse.eye(m), d)
  local w = 1 + rng:uniform((m - 1)*m)
  local b, B = rng:normal(m*m), rng:normal(m*m, 2)
  local function K(v) return G:gram(v) + H:gram(2*v) end

  it("of constants and of vectors", function()
    local A = K(w)
    local x = A:solve(b, {nullspace = "constant"})
    near(pl.mean(x), 0, 1e-13)
    near(A*x, b - pl.mean(b), 1e-12)
    local Z = pl.stack({pl.ones(m*m):at("1:10"):set(0), pl.zeros(m*m):at("1:10"):set(3)}, 2)
    local rows = pl.arange(1, m*m):le(10)
    local i, j, v = A:entries()
    local apart = pl.logical_not(pl.logical_xor(i:le(10), j:le(10)))
    local i2, j2, v2 = i[apart], j[apart], v[apart]
    local two = sparse.triplets(i2, j2, v2, m*m) -- two pieces that do not meet
    two = two - sparse.diag(two*pl.ones(m*m))
    local y = two:solve(B, {nullspace = Z})
    near(Z.T:matmul(y), pl.zeros(2, 2), 1e-12)
    local mean = pl.where(rows:reshape(m*m, 1), pl.mean(B("1:10", ":"), 1), pl.mean(B("11:-1", ":"), 1))
    near(two*y, B - mean, 1e-11)
    for _, options in ipairs{{definite = true}, {symmetric = true}, {method = "umfpack"}} do
      options.nullspace = "constant"
      near(A:solve(b, options), x, 1e-12)
    end
  end)

  it("have derivatives", function()
    local function loss(p) return pl.sum(pl.sin(K(p.w):solve(p.b, {nullspace = "constant", definite = true}))) end
    pl.check_grad(loss, {w = w, b = b}, {order = 2})
    local compiled = pl.compile(loss)
    near(pl.grad(compiled){w = w, b = b}.w, pl.grad(loss){w = w, b = b}.w, 1e-13)
  end)

  it("errors", function()
    local A = K(w)
    fails("times its null space is not zero", function() (A + sparse.eye(m*m)):solve(b, {nullspace = "constant"}) end)
    fails("exclude each other", A.solve, A, b, {nullspace = "constant", fixed = {1}})
    fails("not 'ones'", A.solve, A, b, {nullspace = "ones"})
    fails("vector 2 of the null space", A.solve, A, b, {nullspace = pl.ones(m*m, 2)})
    fails("must be constant", pl.grad(function(z) return pl.sum(A:solve(b, {nullspace = z})) end), pl.ones(m*m))
    fails("{36, k}", A.solve, A, b, {nullspace = pl.ones(3)})
  end)
end)

describe("an inversion", function()
  it("of fifty iterations analyses its pattern once", function()
    local counts = require "perilune.core".sparse.counts
    local m = 13
    local d = sparse.diags({1, -1}, {0, -1}, {m + 1, m})
    local G, H = sparse.kron(d, sparse.eye(m)), sparse.kron(sparse.eye(m), d)
    local f = pl.ones(m*m)/m^2
    local truth = {x = 1 + rng:uniform((m + 1)*m), y = 1 + rng:uniform((m + 1)*m)}
    for _, options in ipairs{{definite = true}, {method = "klu"}, {definite = true, fixed = {1, 5, 80}, value = 0.1}} do
      local function solve(p) return (G:gram(p.x) + H:gram(p.y) + 0.1*sparse.eye(m*m)):solve(f, options) end
      local data = solve(truth)
      local function loss(p) return pl.sum((solve{x = pl.exp(p.x), y = pl.exp(p.y)} - data)^2) end
      local start = {x = 0*truth.x, y = 0*truth.y}
      local first, before = counts()
      pl.grad(loss)(start)
      local analyses, plans = counts()
      assert.is_true(analyses - first <= 1 and plans - before <= 6)
      local fit = pl.minimize(loss, start, {iterations = 50, rtol = 0, atol = 0})
      assert.is_true(fit.iterations >= 50)
      local later, more = counts()
      assert.are.equal(analyses, later)
      assert.is_true(more - plans <= 0, ("%d plans made again"):format(more - plans))
    end
  end)
end)

describe("errors", function()
  local b = pl.ones(n)
  it("of matrices", function()
    fails("not square", D.solve, D, b)
    fails("{40, 40}", laplace.solve, laplace, pl.ones(3))
    fails("right-hand side is nil", laplace.solve, laplace)
    local free = sparse.diags({1, -1}, {0, 1}, {n - 1, n}):gram(1) -- pure Neumann
    for _, options in ipairs{{}, {method = "klu"}, {method = "umfpack"}, {method = "banded"}, {method = "dense"}, {definite = true}, {method = "cholmod"},
      {method = "tridiagonal", definite = true}} do
      fails("row", free.solve, free, b, options)
    end
    fails("nullspace", free.solve, free, b)
    -- rows 2 and 3 share one column
    local lost = sparse.triplets({1, 2, 3, 1, 4}, {1, 1, 1, 2, 4}, {1, 1, 1, 1, 1}, 4)
    fails("whatever its values", lost.solve, lost, pl.ones(4))
    fails("singular at row 3", lost.solve, lost, pl.ones(4))
    local A, w = grid(6)
    local K = A(w) - 2*sparse.eye(36)
    for _, options in ipairs{{definite = true}, {method = "banded", definite = true}, {method = "dense", definite = true}} do
      fails("not positive definite: the pivot of row", K.solve, K, pl.ones(36), options)
    end
    fails("not symmetric: entry (1, 2) is -0.5, entry (2, 1) is -1", tridiagonal.solve, tridiagonal, b, {definite = true})
    fails("without `symmetric`", tridiagonal.solve, tridiagonal, b, {symmetric = true})
    fails("entry in row 2, column 2 is nan", laplace.solve, sparse.diag{1, 0/0, 1}, pl.ones(3))
    fails("not tridiagonal: its band reaches 9 below and 12 above", wide.solve, wide, b, {method = "tridiagonal"})
  end)
  it("of options", function()
    fails("no option 'fast'", laplace.solve, laplace, b, {fast = true})
    fails("no option 'transpose'", laplace.factor, laplace, {transpose = true})
    fails("there is no direct solver 'lu'", laplace.solve, laplace, b, {method = "lu"})
    fails("no option 'method'", function() laplace:factor():solve(b, {method = "klu"}) end)
  end)
end)
