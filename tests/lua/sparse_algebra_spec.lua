-- The algebra of sparse matrices against dense arithmetic, differences, and itself compiled.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse

local fails = require("tests.expect").fails

local rng = pl.rng(7)
local function random(m, n, count)
  return sparse.triplets(rng:integers(1, m, count), rng:integers(1, n, count), rng:normal(count), m, n)
end
local A, B, C, E = random(6, 5, 14), random(6, 5, 12), random(5, 4, 10), random(6, 3, 8)
local S = random(5, 5, 12)

local function dense(x) return sparse.is_sparse(x) and x:dense() or x end
local function same(got, want, tolerance)
  got, want = dense(got), dense(want)
  assert.are.same(want.shape, got.shape)
  if want.count == 0 then return end
  local off = pl.max(pl.abs(got - want)):item()
  assert.is_true(off <= (tolerance or 1e-14), ("off by %g"):format(off))
end

describe("sparse algebra", function()
  it("agrees with dense arithmetic", function()
    local a, b, c, s = A:dense(), B:dense(), C:dense(), S:dense()
    local d, q = rng:normal(6), rng:normal(5)
    same(A + B, a + b)
    same(A - B, a - b)
    same(A - A, 0*a)
    same(A:hadamard(B), a*b)
    same(A:hadamard(A), a*a)
    same(-A, -a)
    same(2*A/3, 2*a/3)
    same(A*C, a:matmul(c))
    same(A.T, a:transpose())
    same(A.T.T, a)
    same(A.T*B, a:transpose():matmul(b))
    same(A.T + B.T, (a + b):transpose())
    same(A:scale_rows(d), pl.diag(d):matmul(a))
    same(A.T:scale_rows(q), pl.diag(q):matmul(a:transpose()))
    same(A:scale_columns(q), a:matmul(pl.diag(q)))
    same(sparse.kron(A, C), pl.kron(a, c))
    same(A*q, a:matmul(q))
    same(A.T*d, a:transpose():matmul(d))
    local x, y = rng:normal(5, 7), rng:normal(6, 3)
    same(A*x, a:matmul(x))
    same(A.T*y, a:transpose():matmul(y))
    same(S:diag(), pl.diagonal(s))
    for k = -6, 5 do same(A:diag(k), pl.diagonal(a, k)) end
    same(S:trace(), pl.trace(s))
    same(A:sum(), pl.sum(a))
    for axis = 1, 2 do
      same(A:sum(axis), pl.sum(a, axis))
      same(A:sum(axis - 3), pl.sum(a, axis))
    end
    same(A:norm(), pl.norm(a))
    same(A:norm("fro"), pl.norm(a))
    same(A:norm(1), pl.max(pl.sum(pl.abs(a), 1)))
    same(A:norm("inf"), pl.max(pl.sum(pl.abs(a), 2)))
    same(A:norm("max"), pl.max(pl.abs(a)))
    same(sparse.from_dense(a), a)
    assert.are.equal(A.nnz, sparse.from_dense(a).nnz)
    assert.is_true(sparse.from_dense(a, {tolerance = 0.5}).nnz < A.nnz)
    same(sparse.from_dense(a, {pattern = B}), a*sparse.with_values(B, pl.ones(B.nnz)):dense())
    assert.are.equal(1, sparse.from_dense(pl.tensor{{0, 0/0}, {0, 0}}).nnz) -- NaN is not zero
    local i, j, v = A.T:entries()
    same(sparse.triplets(i, j, v, 5, 6), a:transpose())
  end)

  it("blocks, rows and columns of them", function()
    local a, b, e = A:dense(), B:dense(), E:dense()
    local zero = pl.zeros(6, 3)
    same(sparse.concat({A, B}, 1), pl.concat{a, b})
    same(sparse.concat({A, B, A.T.T}), pl.concat{a, b, a})
    same(sparse.concat({A, E}, 2), pl.concat({a, e}, 2))
    same(sparse.block{{A, E}, {B, 0}}, pl.concat{pl.concat({a, e}, 2), pl.concat({b, zero}, 2)})
    same(sparse.block{{nil, E}, {A}}, pl.concat{pl.concat({0*a, e}, 2), pl.concat({a, zero}, 2)})
    same(sparse.block_diag{A, E}, pl.concat{pl.concat({a, zero}, 2), pl.concat({0*a, e}, 2)})
    same(sparse.incidence({1, 2, 4}, {2, 3, 1}, 4), pl.tensor{{-1, 1, 0, 0}, {0, -1, 1, 0}, {1, 0, 0, -1}})
    assert.are.same({2, 1, -3}, (sparse.incidence({1, 2, 4}, {2, 3, 1}, 4)*pl.tensor{1, 3, 4, 4}):totable())
  end)

  it("gram by numbers, rows and blocks", function()
    local a, d = A:dense(), rng:uniform(6)
    same(A:gram(d), a:transpose():matmul(pl.diag(d)):matmul(a))
    same(A:gram(2), 2*a:transpose():matmul(a))
    for _, k in ipairs{1, 2, 3, 6} do
      local w = rng:normal(6/k, k, k)
      local blocks = {}
      for c = 1, 6/k do blocks[c] = sparse.from_dense(w(c)) end
      same(A:gram(w), a:transpose():matmul(sparse.block_diag(blocks):dense()):matmul(a), 1e-13)
    end
  end)

  it("f32 stays f32", function()
    local a = A:astype("f32")
    assert.are.equal("f32", a.dtype)
    assert.are.equal("f64", a:astype("f64").dtype)
    local x, y = rng:normal(5):to("f32"), rng:normal(6):to("f32")
    local list = {a*x, a.T*y, (a + B:to("f32")).values, (a*C:to("f32")).values, a.T.values, a:gram(y).values, a("2:4", ":").values, a(1, 1),
      a:sum(1), a:norm(), a:norm(1), a:diag(), a:dense(), a:scale_rows(y).values, a:hadamard(a).values, sparse.concat({a, a}).values,
      sparse.kron(a, a).values, (2*a).values, (a - a).values, a:gram(pl.ones(3, 2, 2):to("f32")).values}
    for k, t in ipairs(list) do assert.are.equal("f32", t.dtype, ("case %d"):format(k)) end
    same(a*x, A:dense():to("f32"):matmul(x), 1e-6)
    assert.are.equal("f64", (a + B).dtype)
  end)

  it("subscripts give what they give of a dense matrix", function()
    local a = A:dense()
    local list, mask = pl.tensor({5, 1, 1, 3}, {dtype = "i64"}), pl.tensor{1, -1, 1, 1, -1}:gt(0)
    local rows = {2, -1, "2:4", "::-1", ":", "-2:", {2, 5}, {6, 1, -2}, {3, 3}, list, pl.tensor{2, 4}, pl.tensor(3), pl.arange(1, 6):gt(2), "3:2"}
    local columns = {4, -5, "1:3", "::2", ":", {1, 5, 2}, list, pl.tensor{2, 2}, pl.tensor(1), mask, {2, 1}}
    local function indexed(s) return core.is_tensor(s) and s.rank > 0 and (s.dtype == "bool" and pl.sum(s:to("i64")):item() or #s) end
    for _, i in ipairs(rows) do
      same(A(i), a(i))
      for _, j in ipairs(columns) do
        local m, n = indexed(i), indexed(j)
        if not (m and n) or m == n then same(A(i, j), a(i, j)) end
        same(A.T(j, ":"), a:transpose()(j, ":"))
        if m and n then same(A(pl.ix(i, j)), a(pl.ix(i, j))) end
      end
    end
    assert.is_true(sparse.is_sparse(A("2:3", ":")) and sparse.is_sparse(A(pl.ix(list, list))) and sparse.is_sparse(A(list, "1:2")))
    assert.are.equal(0, A(2, 2).rank)
    for i = 1, 6 do for j = 1, 5 do assert.are.equal(a:item(i, j), A(i, j):item()) end end
  end)

  it("has help", function()
    local help = require "perilune.help"
    assert.is_truthy(help.text(pl, "sparse.block"):find("list of rows", 1, true))
    for name in pairs(sparse.Matrix) do assert.is_truthy(help.text(pl, "sparse.Matrix." .. name):find("\n", 1, true), name) end
  end)

  it("fixed unknowns", function()
    local n = 6
    local K = sparse.diags({-1, 3, -1}, {-1, 0, 1}, n) + random(6, 6, 4)*0.1
    local b, at = rng:normal(n), pl.tensor{5, 1}
    local M, rhs = K:dirichlet(at, b, pl.tensor{2, -3})
    local u = M:solve(rhs)
    assert.is_true(math.abs(u:item(5) - 2) < 1e-14 and math.abs(u:item(1) + 3) < 1e-14)
    local r = K*u - b
    for _, i in ipairs{2, 3, 4, 6} do assert.is_true(math.abs(r:item(i)) < 1e-13) end
    same(M(at, at), pl.ones(2))
    local L = sparse.diags({-1, 3, -1}, {-1, 0, 1}, n):dirichlet(at, b, 0)
    same(L, L.T, 0)
    local X = pl.stack({b, 2*b}, 2)
    local _, two = K:dirichlet(at, X, pl.tensor{{2, 4}, {-3, -6}})
    same(two(":", 1), rhs)
    same(two(":", 2), 2*rhs)
    local _, column = K:dirichlet(at, X, pl.tensor{2, -3})
    same(column(5), pl.tensor{2, 2})
    local N, none = K:dirichlet(pl.zeros(0), b, 0)
    same(N, K)
    same(none, b)
  end)
end)

-- ---- derivatives ----

local w6, w5, W65, W55 = rng:normal(6), rng:normal(5), rng:normal(6, 5), rng:normal(5, 5)
local left, right = pl.tensor({1, 2, 3, 1}, {dtype = "i64"}), pl.tensor({2, 3, 4, 5}, {dtype = "i64"})
local function weigh(M, W) return pl.sum(M:dense()^2*W) end
-- Each makes a number of sparse matrices with values p.a and p.b, and vectors.
local function first(p) return sparse.with_values(A, p.a) end
local function make(p) return first(p), sparse.with_values(B, p.b) end
local cases = {
  sum = function(p) local a, b = make(p); return weigh(a + b, W65) end,
  difference = function(p) local a, b = make(p); return weigh(a - b, W65) end,
  hadamard = function(p) local a, b = make(p); return weigh(a:hadamard(b), W65) end,
  product = function(p) local a, b = make(p); return weigh(a.T*b, W55) end,
  scale = function(p) local a = first(p); return weigh(p.u[1]*a/p.v[1], W65) end,
  kron = function(p) local a, b = make(p); return pl.sum((sparse.kron(a, b)*pl.ones(25))^2) end,
  apply = function(p) local a = first(p); return pl.sum((a*p.v)^2*w6) end,
  apply_transposed = function(p) local a = first(p); return pl.sum((a.T*p.u)^2*w5) end,
  apply_columns = function(p) local a = first(p); return pl.sum((a*p.M)^2) + pl.sum((a.T*(a*p.M))^2) end,
  rows = function(p) local a = first(p); return weigh(a:scale_rows(p.u), W65) end,
  columns = function(p) local a = first(p); return weigh(a:scale_columns(p.v), W65) end,
  gram = function(p) local a = first(p); return weigh(a:gram(p.u), W55) end,
  gram_blocks = function(p) local a = first(p); return weigh(a:gram(p.w), W55) end,
  gram_constant = function(p) return weigh(A:gram(p.w), W55) + weigh(A:gram(p.u^2), W55) end,
  concat = function(p) local a, b = make(p); return weigh(sparse.concat{a, b}(6, ":") and sparse.concat({a, b})("4:9", ":"), W65) end,
  block = function(p) local a, b = make(p); return pl.sum((sparse.block{{a, 0}, {b, a}}*pl.concat{p.v, p.v})^2) end,
  select = function(p) local a = first(p); return weigh(a("::-1", pl.tensor({2, 2, 5, 1, 3}, {dtype = "i64"})), W65) + pl.sum(a(2, ":")^3) end,
  pick = function(p) local a = first(p); return pl.sum(a(left, right)^2) + a(2, 2)^3 + pl.sum(a(":", 3)^2*w6) end,
  diag = function(p) local a = first(p); return pl.sum(a:diag(1)^2) + a("1:5", ":"):trace()^2 end,
  sums = function(p) local a = first(p); return pl.sum(a:sum(1)^2*w5) + pl.sum(a:sum(2)^3) + a:sum()^2 end,
  norms = function(p) local a = first(p); return a:norm()*p.u[2] + a:norm(1)^2 + a:norm("inf")^2 + a:norm("max")^2 end,
  dense = function(p) local a = sparse.from_dense(p.D, {pattern = S}); return pl.sum((a*p.v)^2) end,
  triplets = function(p) return weigh(sparse.triplets(left, right, p.v("1:4")^2, 6, 5), W65) end,
  diags = function(p) return weigh(sparse.diags({p.v, 1, p.v("2:")}, {0, -1, 1}, {6, 5}), W65) end,
  incidence = function(p) return pl.sum(sparse.incidence(left, right, 5):gram(p.v("1:4")):diag()^2*w5) end,
  dirichlet = function(p)
    local M, b = sparse.from_dense(p.D, {pattern = S}):dirichlet({4, 2}, p.v, p.u("1:2"))
    return weigh(M, W55) + pl.sum(b^2*w5)
  end,
}
local point = {a = rng:normal(A.nnz), b = rng:normal(B.nnz), u = 1 + rng:uniform(6), v = 1 + rng:uniform(5), M = rng:normal(5, 2), w = rng:normal(3, 2, 2),
  D = rng:normal(5, 5)}

local names = {}
for name in pairs(cases) do names[#names + 1] = name end
table.sort(names)

describe("derivatives of sparse algebra", function()
  local function used(f)
    local p, seen = {}, {}
    pl.constant(function() f(setmetatable({}, {__index = function(_, key) seen[key] = true; return point[key] end})) end)
    for key in pairs(seen) do p[key] = point[key] end
    return p
  end

  for _, name in ipairs(names) do
    it(name .. ": slopes, second order, compiled", function()
      local f = cases[name]
      local p = used(f)
      pl.check_grad(f, p)
      local t = {}
      for key, x in pairs(p) do t[key] = rng:normal(unpack(x.shape)) end
      -- second order: the slope of the gradient along t
      local h, H = 1e-5, pl.hvp(f)(p, t)
      local up, down = {}, {}
      for key, x in pairs(p) do up[key], down[key] = x + h*t[key], x - h*t[key] end
      local g1, g2 = pl.grad(f)(up), pl.grad(f)(down)
      for key, x in pairs(H) do
        local slope = (g1[key] - g2[key])/(2*h)
        assert.is_true(pl.max(pl.abs(slope - x)):item() <= 1e-6*(1 + pl.max(pl.abs(x)):item()), name .. ", " .. key)
      end
      local v, g = pl.value_and_grad(f)(p)
      local cv, cg = pl.value_and_grad(pl.compile(f))(p)
      assert.are.equal(v:item(), cv:item())
      for key, x in pairs(g) do same(cg[key], x, 0) end
      local _, slope = pl.jvp(f, p, t)
      assert.is_true(math.abs(slope:item() - pl.dot(g, t):item()) <= 1e-11*(1 + math.abs(slope:item())))
    end)
  end

  it("a loss in a loop rebuilds no structure", function()
    local function loss(p)
      local total = 0
      for _, name in ipairs(names) do total = total + cases[name](p) end
      return total
    end
    local both = pl.value_and_grad(loss)
    both(point)
    local found, made = core.sparse.memo()
    for _ = 1, 5 do both(point) end
    local found2, made2 = core.sparse.memo()
    assert.are.equal(made, made2)
    assert.is_true(found2 - found >= 5*#names)
  end)

  it("inside scan and map", function()
    local function loss(p)
      local a = sparse.with_values(S, p)
      local function step(x)
        local y = (a + a.T):scale_rows(x)*x + a(":", "1:2")*x("1:2")
        return y/(1 + pl.norm(y))
      end
      local last = pl.scan(step, pl.ones(5), 4)
      return pl.sum(last^2*w5)
    end
    local ok, rates = pcall(pl.check_grad, loss, rng:normal(S.nnz))
    assert.is_true(ok, tostring(rates))
    local rows = rng:normal(3, S.nnz)
    local mapped = pl.map(function(v) return sparse.with_values(S, v):gram(w5):sum(1) end, rows)
    for k = 1, 3 do same(mapped(k), sparse.with_values(S, rows(k)):gram(w5):sum(1), 1e-13) end
  end)
end)

describe("sparse products", function()
  it("do not depend on threads, runs or columns", function()
    local n = 3000
    local T = sparse.diags({rng:normal(n), rng:normal(n - 7), rng:normal(n - 1)}, {0, 7, -1}, n) -- in runs
    local R = random(n, n, 5*n)
    local x, X = rng:normal(n), rng:normal(n, 5)
    local want
    for threads = 1, 2 do
      pl.with({threads = threads}, function()
        for _ = 1, 2 do
          local got = {T*x, T.T*x, R*x, R.T*x, R*X, R.T*X, T*X, T.T*X, (T + R).values, (T*R).values}
          for k, y in ipairs(want or got) do same(got[k], y, 0) end
          want = want or got
        end
      end)
    end
    for k, M in ipairs{T, R} do
      local M2 = M.T("1:" .. n, ":") -- the transpose itself
      same(M.T*x, M2*x, 0)
      same((M*X)(":", 3), M*X(":", 3), 0)
      same(M.T*X(":", 4), (M.T*X)(":", 4), 0)
      local i, j, v = M:entries()
      same(M*x, pl.zeros(n):at(i):add(v*x[j]), 1e-13)
      assert.is_true(k <= 2)
    end
  end)

  it("empty matrices", function()
    local Z, F = sparse.triplets({}, {}, pl.zeros(0), 3, 4), sparse.triplets({}, {}, pl.zeros(0), 0, 4)
    same(Z*pl.ones(4), pl.zeros(3))
    same(Z.T*pl.ones(3), pl.zeros(4))
    same(Z + Z, pl.zeros(3, 4))
    same(Z:gram(pl.ones(3)), pl.zeros(4, 4))
    same(sparse.concat{F, Z}, Z)
    same(F*pl.ones(4), pl.zeros(0))
    same(F:sum(1), pl.zeros(4))
    same(Z:diag(), pl.zeros(3))
    for _, kind in ipairs{"fro", 1, "inf", "max"} do assert.are.equal(0, Z:norm(kind):item()) end
    same(Z("1:2", ":"), pl.zeros(2, 4))
    assert.are.equal("sparse {3, 4}, 0 entries, f64", tostring(Z))
  end)
end)

describe("sparse errors", function()
  it("say what does not fit", function()
    fails("sum: sparse matrices of shapes {6, 5} and {5, 4}", function() return A + C end)
    fails("difference", function() return A - 1 end)
    fails("{6, 5} and {5, 4}", function() return A:hadamard(C) end)
    fails("hadamard needs a sparse matrix, not a dense tensor", function() return A:hadamard(w6) end)
    fails("{6, 5} and {6, 5}", function() return A*B end)
    fails("the factors have shape {5}, the matrix {6, 5}: {6}", function() return A:scale_rows(w5) end)
    fails("{5} is needed", function() return A:scale_columns(w6) end)
    fails("{6/k, k, k}", function() return A:gram(pl.ones(4, 2, 2)) end)
    fails("{6/k, k, k}", function() return A:gram(pl.ones(5)) end)
    fails("block (1, 2) has 5 rows, a block beside it 6", function() return sparse.block{{A, C}} end)
    fails("block (2, 1) has 4 columns", function() return sparse.concat{A, C} end)
    fails("size of column 2 of blocks", function() return sparse.block{{A, 0}} end)
    fails("block (1, 1) needs a sparse matrix", function() return sparse.block{{w5}} end)
    fails("list of rows", function() return sparse.block{A, B} end)
    fails("axes 1 and 2", function() return sparse.concat({A, B}, 3) end)
    fails("concat needs a list", function() return sparse.concat(A, B) end)
    fails("a matrix is needed, not a tensor of shape {5}", sparse.from_dense, w5)
    fails("tolerance is -1", sparse.from_dense, W55, {tolerance = -1})
    fails("'tol'", sparse.from_dense, W55, {tol = 1})
    fails("the pattern {6, 5}", sparse.from_dense, W55, {pattern = A})
    fails("while a function is being traced", pl.compile(function(x) return sparse.from_dense(x).values end), W55)
    fails("right cell 6 (entry 2) is out of range 1 to 5", sparse.incidence, {1, 2}, {2, 6}, 5)
    fails("2 left and 1 right", sparse.incidence, {1, 2}, {2}, 5)
    fails("index 7 is out of range 1 to 6 on axis 1", function() return A(7, 1) end)
    fails("index 0", function() return A(1, 0) end)
    fails("more subscripts", function() return A(1, 1, 1) end)
    fails("column 9 (entry 1) is out of range 1 to 5", function() return A(":", pl.tensor{9}) end)
    fails("pl.ix(rows, columns)", function() return A(pl.tensor{1, 2}, pl.tensor{1, 2, 3}) end)
    fails("mask", function() return A(A:dense():gt(0)) end)
    fails("must not depend on its arguments", pl.compile(function(i) return A(i, ":").values end), pl.tensor({1, 2}, {dtype = "i64"}))
    fails("no diagonal 9", function() return A:diag(9) end)
    fails("no norm 2", function() return A:norm(2) end)
    fails("axes 1 and 2, not 3", function() return A:sum(3) end)
    fails("f64 or f32, not i64", function() return A:astype("i64") end)
    fails("not square", function() return A:dirichlet({1}, w6, 0) end)
    fails("unknown 2 (entry 3) is fixed twice", function() return S:dirichlet({2, 1, 2}, w5, 0) end)
    fails("out of range 1 to 5", function() return S:dirichlet({6}, w5, 0) end)
    fails("{3}", function() return S:dirichlet({1, 2}, w5, pl.ones(3)) end)
    fails("no field or method 'inverse'", function() return A.inverse end)
    fails("sparse*dense", function() return w6*A end)
  end)
end)
