-- Sorting and selection against the definition of a stable order, at sizes that take each of the ways; running products and linear
-- recurrences against loops and closed forms.
local pl = require "perilune"

local function same(t, want) assert.are.same(want, t:totable()) end
local fails = require("tests.expect").fails
local nan, inf = 0/0, math.huge

-- Is k the order of x: each place once, values in order (a NaN above all numbers), equals by their places?
local function is_order(x, k, descending)
  local n = #x
  assert.is_true(pl.all(pl.bincount(k, n):eq(1)))
  if n < 2 then return end
  local y, z = x(k({1, n - 1})), x(k({2, n}))
  if descending then y, z = z, y end
  local below = pl.logical_or(y:lt(z), pl.logical_and(pl.logical_not(pl.isnan(y)), pl.isnan(z)))
  local equal = pl.logical_or(y:eq(z), pl.logical_and(pl.isnan(y), pl.isnan(z)))
  assert.is_true(pl.all(pl.logical_or(below, pl.logical_and(equal, k({1, n - 1}):lt(k({2, n}))))))
end

-- Vectors of n numbers that are hard in some way.
local function hard(n)
  local rng, k = pl.rng(n), pl.arange(1, n)
  local list = {rng:normal(n), rng:normal(n):to("f32"), rng:integers(-3, 3, n), rng:integers(-2^53, 2^53, n), k, -k, pl.ones(n), k % 7,
    pl.where(k:lt(n/2), 0, k), pl.where(rng:uniform(n):lt(0.3), nan, rng:normal(n)), pl.where((k % 3):eq(0), -0.0, 0.0),
    pl.where((k % 5):eq(0), inf, pl.where((k % 5):eq(1), -inf, nan)), rng:normal(n)*pl.exp(600*rng:normal(n))}
  return list
end

describe("sorting", function()
  it("is a stable order at any size", function()
    for n = 0, 70 do is_order(pl.rng(n):integers(1, 9, n), pl.argsort(pl.rng(n):integers(1, 9, n))) end
    for _, n in ipairs{255, 1000, 16384, 20011} do
      for _, x in ipairs(hard(n)) do
        is_order(x, pl.argsort(x))
        is_order(x, pl.argsort(x, {descending = true}), true)
      end
    end
  end)

  it("along any axis, whatever the threads", function()
    local x = pl.rng(1):integers(1, 1000, 3, 17000, 2)
    local k = pl.argsort(x, 2)
    for o = 1, 3 do for i = 1, 2 do is_order(x(o, ":", i), k(o, ":", i)) end end
    local long = pl.rng(2):normal(300000)
    local once, few = pl.argsort(long), {pl.topk(long, 1000)}
    is_order(long, once)
    pl.with({threads = 1}, function()
      assert.is_true(pl.all(pl.argsort(long):eq(once)))
      assert.is_true(pl.all(pl.argsort(x, 2):eq(k)))
      assert.is_true(pl.all(({pl.topk(long, 1000)})[2]:eq(few[2])))
    end)
  end)
end)

describe("selection", function()
  it("is what sorting gives", function()
    for _, n in ipairs{1, 2, 256, 1000, 20011} do
      for _, x in ipairs(hard(n)) do
        for _, smallest in ipairs{false, true} do
          local order = pl.argsort(x, {descending = not smallest})
          for _, k in ipairs{1, 2, 10, math.floor(n/5), math.floor(n/2), n} do
            if k <= n then
              local v, places = pl.topk(x, k, {smallest = smallest})
              assert.is_true(pl.all(places:eq(order({1, k}))))
              local want = x(places)
              assert.is_true(pl.all(pl.logical_or(v:eq(want), pl.isnan(want))))
            end
          end
        end
      end
    end
    assert.are.same({0}, pl.topk(pl.zeros(0), 0).shape)
    assert.are.same({2, 0}, pl.topk(pl.zeros(2, 5), 0).shape)
    assert.are.same({0, 2}, pl.topk(pl.zeros(0, 5), 2).shape)
  end)

  it("of quantiles, at any place and axis", function()
    local x = pl.rng(4):normal(5000)
    local sorted = pl.sort(x)
    for _, q in ipairs{0, 1e-4, 0.1, 0.25, 0.5, 0.77, 0.9999, 1} do
      local place = q*4999
      local k = math.min(math.floor(place), 4998)
      local lo, hi = sorted:item(k + 1), sorted:item(k + 2)
      assert.is_true(math.abs(pl.quantile(x, q):item() - (lo + (hi - lo)*(place - k))) < 1e-15*(1 + math.abs(hi)))
    end
    local m = pl.rng(5):normal(3, 700, 2)
    local at = pl.median(m, 2)
    for o = 1, 3 do for i = 1, 2 do assert.are.equal(pl.median(m(o, ":", i)):item(), at:item(o, i)) end end
    assert.are.equal(2, pl.median(pl.concat{pl.ones(400), pl.full({401}, 2), pl.full({400}, 3)}):item())
    -- NaN is last
    local holes = pl.where(pl.arange(1, 1001):le(300), nan, pl.arange(1, 1001))
    assert.are.equal(301 + 500, pl.median(holes):item())
    assert.is_true(pl.isnan(pl.quantile(holes, 0.9)):item())
  end)

  it("passes derivatives on, is mapped and compiled", function()
    local x = pl.rng(6):normal(1000)
    local function f(v) return pl.sum((pl.topk(v, 10))^3) + pl.median(v)^2 + pl.quantile(v, 0.3) end
    assert.are.equal(f(x):item(), pl.compile(f)(x):item())
    local g = pl.grad(f)(x)
    local v, k = pl.topk(x, 10)
    assert.is_true(pl.max(pl.abs(g(k) - 3*v^2)):item() < 1e-14)
    assert.are.equal(14, pl.sum(g:ne(0):to("i64")):item())
    local m = pl.rng(7):normal(4, 600)
    local all, one = pl.map(f, m), {}
    for r = 1, 4 do one[r] = f(m(r, ":")):item() end
    for r = 1, 4 do assert.is_true(math.abs(all:item(r) - one[r]) < 1e-12) end
  end)
end)

describe("running products", function()
  local function product(x, reverse)
    local y, p = {}, 1
    for k = 1, #x do
      local at = reverse and #x + 1 - k or k
      p = x[at]*p
      y[at] = p
    end
    return y
  end

  it("are those of a loop, bit for bit, along any axis and from either end", function()
    local x = pl.rng(1):normal(500)
    same(pl.cumprod(x), product(x:totable()))
    same(pl.cumprod(x, {reverse = true}), product(x:totable(), true))
    for _, shape in ipairs{{1, 9, 1}, {2, 5, 3}, {3, 4, 8}, {1, 6, 19}} do
      local m = pl.rng(2):normal(unpack(shape))
      local y, z, s = pl.cumprod(m, 2), pl.cumprod(m, {axis = 2, reverse = true}), pl.cumsum(m, 2)
      for o = 1, shape[1] do
        for i = 1, shape[3] do
          local line = m(o, ":", i):totable()
          same(y(o, ":", i), product(line))
          same(z(o, ":", i), product(line, true))
          for k = 2, #line do line[k] = line[k - 1] + line[k] end
          same(s(o, ":", i), line)
        end
      end
    end
    same(pl.cumprod(pl.tensor({2, -3, 4}, {dtype = "i64"})), {2, -6, -24})
    same(pl.cumprod(pl.tensor{0.5, 3, 0}:to("f32")), {0.5, 1.5, 0})
    same(pl.cumprod(pl.tensor{1e-200, 1e200, 1e-200, 1e200}), product{1e-200, 1e200, 1e-200, 1e200}) -- no part is taken by itself
    assert.are.same({0}, pl.cumprod(pl.zeros(0)).shape)
    assert.is_true(pl.isnan(pl.cumprod(pl.tensor{0, nan, 1})):item(3))
    fails("axis", pl.cumprod, pl.tensor(2))
    fails("axis", pl.cumprod, pl.ones(2), 2)
  end)

  -- d^2/dx_j dx_k of the sum of all products up to i, by multiplying out
  local function second(x, j, k)
    local sum = 0
    for i = math.max(j, k), #x do
      local p = j == k and 0 or 1
      for l = 1, i do if l ~= j and l ~= k then p = p*x[l] end end
      sum = sum + p
    end
    return sum
  end
  local function total(p) return pl.sum(pl.cumprod(p)) end

  it("have the derivatives of polynomials, with any zeros", function()
    for _, x in ipairs{{2, 3, 5, 7}, {2, 0, 3, 5}, {0, 0, 3, 5}, {0, 2, 0, 0}, {0, 0, 0, 0}, {4, 0, 2, -0.5, 0, 3}} do
      local H = pl.hessian(total)(pl.tensor(x))
      for j = 1, #x do for k = 1, #x do assert.are.equal(second(x, j, k), H:item(j, k)) end end
    end
    -- the third derivative of x1 + x1 x2 + x1 x2 x3 + x1 x2 x3 x4 at 0 along u, v, w is that of x1 x2 x3
    local u, v, w = {1, 2, 3, 4}, {5, 7, 11, 13}, {17, 19, 23, 29}
    local want = 0
    for _, p in ipairs{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}} do want = want + u[p[1]]*v[p[2]]*w[p[3]] end
    local function along(f, d) return function(p) return pl.sum(pl.grad(f)(p)*pl.tensor(d)) end end
    assert.are.equal(want, along(along(along(total, u), v), w)(pl.zeros(4)):item())
    pl.check_grad(function(p) return pl.sum(pl.cumprod(p, {axis = 2, reverse = true})^2) end, pl.tensor{{1.5, 0, -2}, {0, 0.5, 0}})
    same(pl.grad(function(p) return pl.cumprod(p)[3] end)(pl.tensor{1e-200, 1e-200, 0}), {0, 0, 0})
  end)

  it("are mapped, and have a sparse derivative", function()
    local m = pl.rng(3):normal(4, 3, 5)
    local y = pl.map(function(x) return pl.cumprod(x, 2) end, m)
    assert.is_true(pl.all(y:eq(pl.cumprod(m, 3))))
    local x = pl.tensor{2, 0, 3}
    same(pl.sparse_jacobian(function(v) return pl.cumprod(v) end)(x):dense(), {{1, 0, 0}, {0, 2, 0}, {0, 6, 0}})
    same(pl.jacobian(function(v) return pl.cumprod(v) end)(x), {{1, 0, 0}, {0, 2, 0}, {0, 6, 0}})
  end)
end)

describe("linear recurrences", function()
  it("are those of a loop and of closed forms", function()
    local s = pl.linear_recurrence(0.5, pl.ones(30))
    for k = 1, 30 do assert.are.equal(2 - 2^(1 - k), s:item(k)) end
    same(pl.linear_recurrence(pl.tensor{nan, 2, 3}, pl.tensor{1, 10, 100}), {1, 12, 136}) -- nothing comes before the first
    same(pl.linear_recurrence(pl.tensor{2, 3, inf}, pl.tensor{1, 10, 100}, {reverse = true}), {621, 310, 100})
    same(pl.linear_recurrence(pl.tensor{2, 3}, pl.tensor{{1, 10}, {100, 1000}}), {{1, 10}, {102, 1030}})
    same(pl.linear_recurrence(pl.tensor{{2}, {3}}, pl.tensor{1, 10, 100}, -1), {{1, 12, 124}, {1, 13, 139}})
    assert.are.equal("f32", pl.linear_recurrence(pl.ones(2):to("f32"), pl.ones(2):to("f32")).dtype)
    same(pl.linear_recurrence(pl.tensor({1, 2}, {dtype = "i64"}), pl.tensor({3, 4}, {dtype = "i64"})), {3, 10})
    assert.are.same({0}, pl.linear_recurrence(0.5, pl.zeros(0)).shape)
    same(pl.linear_recurrence(1, pl.arange(1, 9)), pl.cumsum(pl.arange(1, 9)):totable())
    fails("{3}", pl.linear_recurrence, pl.ones(3), pl.ones(2))
    fails("axis", pl.linear_recurrence, pl.tensor(1), pl.tensor(2))
    fails("axis", pl.linear_recurrence, pl.ones(3), pl.ones(3), 2)
  end)

  it("are differentiated to any order, mapped, and know what depends on what", function()
    local rng = pl.rng(1)
    local p = {a = rng:normal(3, 6), b = rng:normal(6)}
    for _, reverse in ipairs{false, true} do
      local function f(q) return pl.sum(pl.linear_recurrence(q.a, q.b, {axis = 2, reverse = reverse})^3) end
      pl.check_grad(f, p)
      pl.check_grad(function(q) return pl.sum(pl.grad(f)(q).a^2) end, p)
      assert.are.equal(f(p):item(), pl.compile(f)(p):item())
    end
    local a, b = rng:normal(4, 5), rng:normal(4, 5)
    local y = pl.map(function(q) return pl.linear_recurrence(q.a, q.b) end, {a = a, b = b})
    assert.is_true(pl.all(y:eq(pl.linear_recurrence(a, b, 2))))
    local shared = pl.map(function(q) return pl.linear_recurrence(q, b(1, ":")) end, a)
    assert.is_true(pl.all(shared:eq(pl.linear_recurrence(a, b(1, ":"), 2))))
    local factors = pl.tensor{2, 3, 4}
    same(pl.sparse_jacobian(function(v) return pl.linear_recurrence(factors, v) end)(pl.ones(3)):dense(), {{1, 0, 0}, {3, 1, 0}, {12, 4, 1}})
    local H = pl.hessian(function(v) return pl.sum(pl.linear_recurrence(v, 1)) end)(factors) -- 1, a2 + 1, a3 (a2 + 1) + 1
    same(H, {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}})
  end)

  it("follow a scan", function()
    local a, b = pl.rng(2):normal(40), pl.rng(3):normal(40)
    local _, ys = pl.scan(function(s, x) local t = x.a*s + x.b return t, t end, pl.tensor(0), {a = a, b = b})
    same(pl.linear_recurrence(a, b), ys:totable())
  end)
end)
