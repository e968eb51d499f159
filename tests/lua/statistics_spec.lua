-- Order, moments and what is made of them, against figures worked out otherwise; conventions; bad input.
local pl = require "perilune"

local function same(t, want) assert.are.same(want, t:totable()) end
local function near(a, b, tolerance) assert.is_true(math.abs(a - b) <= (tolerance or 1e-14)*(1 + math.abs(b)), ("%.17g is not %.17g"):format(a, b)) end
local fails = require("tests.expect").fails
local nan = 0/0

describe("order", function()
  local x = pl.tensor{{3, 1, 2}, {-1, 5, 5}}
  it("argmax and argmin: the first of equals; a NaN is found", function()
    assert.are.same({5, 4}, {pl.argmax(x):item(), pl.argmin(x):item()})
    same(pl.argmax(x, 2), {1, 2})
    same(pl.argmin(x, {axis = 1, keep = true}), {{2, 1, 1}})
    assert.are.same({2, 2}, {pl.argmax(pl.tensor{1, nan, 3, nan}):item(), pl.argmin(pl.tensor{1, nan, -3}):item()})
    same(pl.argmax(pl.tensor({4, 9, 9}, {dtype = "i64"}), 1), 2)
    fails("empty", pl.argmax, pl.zeros(0))
    fails("one axis", pl.argmax, x, {1, 2})
  end)

  it("sort and argsort agree with Lua's, keep equals in order, NaN last", function()
    local v = pl.rng(3):integers(1, 40, 501)
    local list = v:totable()
    local places = {}
    for k = 1, #list do places[k] = k end
    table.sort(places, function(a, b) if list[a] ~= list[b] then return list[a] < list[b] end return a < b end)
    same(pl.argsort(v), places)
    table.sort(list)
    same(pl.sort(v), list)
    same(pl.sort(x, {descending = true}), {{3, 2, 1}, {5, 5, -1}})
    same(pl.argsort(x, {descending = true}), {{1, 3, 2}, {2, 3, 1}})
    same(pl.sort(x, 1), {{-1, 1, 2}, {3, 5, 5}})
    same(pl.argsort(pl.tensor{nan, 2, nan, 1}), {4, 2, 1, 3})
    local edges = pl.tensor{0, -0.0, -1.5, math.huge, -math.huge, nan, 1e-310, -1e-310}
    same(pl.argsort(edges), {5, 3, 8, 1, 2, 7, 4, 6})
    same(pl.argsort(edges, {descending = true}), {6, 4, 7, 1, 2, 8, 3, 5})
    same(pl.argsort(edges:to("f32")("1:6")), {5, 3, 1, 2, 4, 6})
    assert.are.same({6, 6}, {pl.argmax(edges):item(), pl.argmin(edges):item()})
    local wide = pl.tile(pl.tensor{1, 7, 3, 7, -2, 5, 5, 0, -2}, {3})
    assert.are.same({2, 5}, {pl.argmax(wide):item(), pl.argmin(wide):item()})
    same(pl.sort(pl.zeros(2, 0)), {{}, {}})
    fails("axis", pl.sort, pl.tensor(1))
    -- the derivative is moved along
    local g = pl.grad(function(p) return pl.sum(pl.sort(p)*pl.tensor{1, 2, 3}) end)(pl.tensor{30, 10, 20})
    same(g, {3, 1, 2})
  end)

  it("take_along takes what argsort found, on any axis", function()
    same(pl.take_along(x, pl.argsort(x, 1), 1), {{-1, 1, 2}, {3, 5, 5}})
    same(pl.take_along(x, pl.tensor({{3}, {1}}, {dtype = "i64"})), {{2}, {-1}})
    fails("take_along", pl.take_along, x, pl.tensor({{4}, {1}}, {dtype = "i64"})("1:1", ":"))
    fails("out of", pl.take_along, pl.tensor{1, 2}, pl.tensor({3}, {dtype = "i64"}))
  end)

  it("median and quantile are NumPy's", function()
    local v = pl.tensor{15, 20, 35, 40, 50}
    assert.are.equal(35, pl.median(v):item())
    near(pl.quantile(v, {q = 0.4}):item(), 29)
    near(pl.quantile(v, 0.3):item(), 23)
    assert.are.same({15, 50}, {pl.quantile(v, 0):item(), pl.quantile(v, 1):item()})
    same(pl.median(x, 1), {1, 3, 3.5})
    assert.are.equal(2.5, pl.median(pl.tensor({4, 1, 2, 3}, {dtype = "i64"})):item())
    fails("between 0 and 1", pl.quantile, v, 1.5)
    fails("no elements", pl.median, pl.zeros(0))
  end)

  it("topk", function()
    local v, k = pl.topk(pl.tensor{{3, 1, 2}, {-1, 5, 5}}, 2)
    same(v, {{3, 2}, {5, 5}})
    same(k, {{1, 3}, {2, 3}})
    v, k = pl.topk(pl.tensor{4, 1, 3}, {k = 1, smallest = true})
    same(v, {1})
    same(k, {2})
    same(pl.grad(function(p) return pl.sum((pl.topk(p, 2))^2) end)(pl.tensor{1, 5, 3}), {0, 10, 6})
    fails("4 of 3", pl.topk, pl.ones(3), 4)
  end)

  it("interp is NumPy's, and differentiable in all three", function()
    local xp, fp = pl.tensor{1, 2, 4}, pl.tensor{10, 20, 0}
    same(pl.interp(pl.tensor{0, 1, 1.5, 2, 3, 4, 9}, xp, fp), {10, 10, 15, 20, 10, 0, 0})
    same(pl.grad(function(v) return pl.sum(pl.interp(v, xp, fp)) end)(pl.tensor{1.5, 3, 0, 9}), {10, -10, 0, 0})
    pl.check_grad(function(p) return pl.sum(pl.interp(p.x, p.xp, p.fp)^2) end, {x = pl.tensor{1.3, 2.7, 3.1}, xp = xp, fp = fp})
    fails("as many", pl.interp, pl.ones(2), xp, pl.ones(2))
  end)

  it("searchsorted", function()
    local s = pl.tensor{1, 2, 2, 3}
    same(pl.searchsorted(s, pl.tensor{0, 1, 2, 2.5, 9}), {1, 1, 2, 4, 5})
    same(pl.searchsorted(s, pl.tensor{0, 1, 2, 2.5, 9}, {right = true}), {1, 2, 4, 4, 5})
    fails("vector", pl.searchsorted, x, pl.tensor{1})
  end)
end)

describe("statistics", function()
  it("var and std", function()
    local v = pl.tensor{2, 4, 4, 4, 5, 5, 7, 9}
    near(pl.var(v):item(), 4)
    near(pl.std(v):item(), 2)
    near(pl.var(v, {ddof = 1}):item(), 32/7)
    near(pl.var(v + 1e8):item(), 4) -- no difference of large squares
    same(pl.std(pl.tensor{{1, 3}, {2, 2}}, 2), {1, 0})
    same(pl.grad(function(p) return pl.std(p) end)(pl.tensor{3, 3, 3}), {0, 0, 0})
    fails("too few", pl.var, pl.tensor{1}, {ddof = 1})
  end)

  it("logsumexp and softmax neither overflow nor lose digits", function()
    near(pl.logsumexp(pl.tensor{1000, 1000}):item(), 1000 + math.log(2))
    near(pl.logsumexp(pl.tensor{-1000, -1001}):item(), -1000 + math.log(1 + math.exp(-1)))
    assert.are.equal(-math.huge, pl.logsumexp(pl.tensor{-math.huge, -math.huge}):item())
    assert.are.equal(math.huge, pl.logsumexp(pl.tensor{math.huge, 0}):item())
    local s = pl.softmax(pl.tensor{{0, math.log(3)}, {800, -800}})
    near(s:item(1, 1), 0.25)
    near(s:item(1, 2), 0.75)
    assert.are.same({1, 0}, {s:item(2, 1), s:item(2, 2)})
    near(pl.log_softmax(pl.tensor{800, -800}):item(2), -1600)
    near(pl.grad(function(p) return pl.logsumexp(p) end)(pl.tensor{1000, 1000}):item(1), 0.5)
  end)

  it("trapezoid converges with order 2, on uneven places too", function()
    local function error_of(n, uneven)
      local t = pl.linspace(0, 1, n)
      if uneven then t = t^2 end
      local y = pl.exp(t)
      return math.abs((uneven and pl.trapezoid(y, t) or pl.trapezoid(y, {dx = 1/(n - 1)})):item() - (math.exp(1) - 1))
    end
    for _, uneven in ipairs{false, true} do
      local order = math.log(error_of(101, uneven)/error_of(201, uneven))/math.log(2)
      near(order, 2, 0.01)
    end
    same(pl.trapezoid(pl.tensor{{1, 2, 3}, {0, 0, 4}}), {4, 2})
    same(pl.trapezoid(pl.tensor{{1, 2, 3}, {0, 0, 4}}, {axis = 1}), {0.5, 1, 3.5})
    assert.are.equal(0, pl.trapezoid(pl.tensor{5}):item())
    fails("as long as y", pl.trapezoid, pl.ones(3), pl.ones(4))
    fails("no axis", pl.trapezoid, pl.tensor(1))
  end)

  it("cumprod, with zeros in it, and bincount", function()
    same(pl.cumprod(pl.tensor{1, 2, 3, 4, 5, 6, 7}), {1, 2, 6, 24, 120, 720, 5040})
    same(pl.cumprod(pl.tensor{{1, 2}, {3, 4}}, 2), {{1, 2}, {3, 12}})
    same(pl.cumprod(pl.tensor({2, 3}, {dtype = "i64"})), {2, 6})
    same(pl.grad(function(p) return pl.sum(pl.cumprod(p)) end)(pl.tensor{2, 0, 3}), {1, 8, 0})
    pl.check_grad(function(p) return pl.sum(pl.cumprod(p)^2) end, pl.tensor{1.5, 0, -2, 0.5, 0})
    same(pl.bincount(pl.tensor({1, 3, 3}, {dtype = "i64"}), 4), {1, 0, 2, 0})
    fails("i64", pl.bincount, pl.tensor{1, 2}, 2)
    fails("out of", pl.bincount, pl.tensor({9}, {dtype = "i64"}), 2)
  end)

  it("long indices go in pieces, wide rows in strips: exact sums, whatever the threads", function()
    local n, m = 100003, 97
    local k = pl.arange(1, n, {dtype = "i64"})
    local place, number = (k*k)%m + 1, (k*7)%1001 - 500
    local sum, most, least, count = {}, {}, {}, {}
    for j = 1, m do sum[j], most[j], least[j], count[j] = 0, -math.huge, math.huge, 0 end
    for i = 1, n do
      local j, x = i*i%m + 1, i*7%1001 - 500
      sum[j], count[j] = sum[j] + x, count[j] + 1
      most[j], least[j] = math.max(most[j], x), math.min(least[j], x)
    end
    for _, dtype in ipairs{"i64", "f64", "f32"} do
      same(pl.segment_sum(number:to(dtype), place, m), sum)
      same(pl.segment_max(number:to(dtype), place, m), most)
      same(pl.segment_min(number:to(dtype), place, m), least)
    end
    same(pl.bincount(place, m), count)
    local base = pl.arange(1, m)*1e3
    same(pl.add_at(base, place, number:to("f64")), (pl.tensor(sum) + base):totable())
    same(pl.max_at(base - 4.8e4, place, number:to("f64")), pl.maximum(pl.tensor(most), base - 4.8e4):totable())
    local x = pl.sin(k:to("f64"))
    local rows, few = pl.reshape(x(("1:%d"):format(400*250)), 400, 250), place("1:400")
    local function all()
      return {pl.segment_sum(x, place, m), pl.segment_max(x, place, m), pl.segment_sum(rows, few, m), pl.bincount(place, m),
        pl.map(function(v) return pl.segment_sum(v, place, m) end, pl.stack{x, -x})}
    end
    local want = all()
    pl.with({threads = 1}, function()
      for i, y in ipairs(all()) do assert.are.equal(want[i]:bytes(), y:bytes(), "row " .. i) end
    end)
    assert.are.equal(want[1]:bytes(), want[5][1]:bytes())
    for j = 1, 250, 83 do assert.are.equal(want[3](":", j):bytes(), pl.segment_sum(rows(":", j), few, m):bytes()) end
    local broken = pl.where(k:eq(70000), 0/0, x)
    assert.are.equal("nan", tostring(pl.segment_max(broken, place, m):item(70000*70000%m + 1)):gsub("-", ""))
    assert.are.equal(-math.huge, 1/pl.add_at(pl.tensor{-0.0, 0}, pl.ones(40000, {dtype = "i64"}) + 1, pl.ones(40000)):item(1))
    local far = pl.where(k:eq(70000), m + 1, place)
    fails("index 98 (entry 70000) is out of range 1 to 97", pl.segment_sum, x, far, m)
    fails("index 98 (entry 70000) is out of range 1 to 97", pl.bincount, far, m)
    fails("index 0 (entry 3) is out of range 1 to 97", pl.segment_sum, rows, pl.where(k("1:400"):eq(3), 0, few), m)
    fails("out of range", pl.segment_sum, pl.ones(2, 0), pl.tensor({1, 4}, {dtype = "i64"}), 3)
    fails("no number of segments", pl.bincount, place, -1)
  end)

  it("segment_sum", function()
    local k = pl.tensor({2, 1, 2}, {dtype = "i64"})
    same(pl.segment_sum(pl.tensor{1, 2, 4}, k, 3), {2, 5, 0})
    same(pl.segment_sum(pl.tensor{{1, 1}, {2, 2}, {4, 4}}, k, {n = 2}), {{2, 2}, {5, 5}})
    same(pl.segment_sum(pl.tensor({1, 2, 4}, {dtype = "i64"}), k, 2), {2, 5})
    fails("one for each row", pl.segment_sum, pl.ones(4), k, 2)
    fails("out of", pl.segment_sum, pl.tensor{1, 2, 4}, k, 1)
  end)

  it("segment_max", function()
    local k = pl.tensor({2, 1, 2}, {dtype = "i64"})
    same(pl.segment_max(pl.tensor{1, 2, 4}, k, 3), {2, 4, -math.huge})
    same(pl.segment_max(pl.tensor{{1, 8}, {2, 2}, {4, 4}}, k, {n = 2}), {{2, 2}, {4, 8}})
    assert.is_true(pl.isnan(pl.segment_max(pl.tensor{nan, 2, 4}, k, 2)):item(2))
    local x, at = pl.rng(2):normal(50, 3), pl.rng(3):integers(1, 7, 50)
    local most = pl.segment_max(x, at, 7)
    for s = 1, 7 do same(most(s), pl.max(x(at:eq(s)), 1):totable()) end
    same(pl.grad(function(v) return pl.sum(pl.segment_max(v, k, 2)) end)(pl.tensor{4, 2, 4}), {0.5, 1, 0.5})
    assert.are.equal(pl.sum(most):item(), pl.compile(function(v) return pl.sum(pl.segment_max(v, at, 7)) end)(x):item())
    fails("one for each row", pl.segment_max, pl.ones(4), k, 2)
    fails("segment_max", pl.segment_max, pl.ones(3), k, -1)
    fails("out of", pl.segment_max, pl.tensor{{1, 2}, {3, 4}, {4, 5}}, k, 1)
  end)

  it("compiled, mapped and inside loops", function()
    local x = pl.rng(1):normal(6, 5)
    local function f(v) return pl.sum(pl.sort(v)*pl.softmax(v)) + pl.median(v)*pl.std(v) + pl.logsumexp(v) end
    assert.are.equal(pl.compile(f)(x):item(), f(x):item())
    local rows = pl.map(f, x)
    for k = 1, 6 do near(rows:item(k), f(x(k, ":")):item(), 1e-13) end
    pl.check_grad(f, x)
    pl.check_grad(function(p) return pl.sum((pl.scan(function(s) return 0.5*s + pl.softmax(s)*p end, p, 3))) end, x)
  end)
end)

describe("rolling windows", function()
  it("agree with each window taken by itself, at any width", function()
    local x = pl.rng(5):normal(3, 40)
    for _, w in ipairs {1, 2, 3, 7, 8, 31, 40} do
      local n = 40 - w + 1
      local sum, mean, var = pl.rolling_sum(x, w), pl.rolling_mean(x, w), pl.rolling_var(x, w)
      assert.are.same({3, n}, sum.shape)
      for _, k in ipairs {1, n} do
        local part = x(2, {k, k + w - 1})
        near(sum:item(2, k), pl.sum(part):item())
        near(mean:item(2, k), pl.mean(part):item())
        near(var:item(2, k), pl.var(part):item())
      end
    end
    same(pl.rolling_sum(pl.tensor{{1, 2}, {3, 4}, {5, 6}}, 2, 1), {{4, 6}, {8, 10}})
    near(pl.rolling_std(pl.tensor{1, 2, 4, 8, 16}, 5, {ddof = 1}):item(1), math.sqrt(37.2))
  end)

  it("of whole numbers are exact at any width and layout", function()
    for _, shape in ipairs {{1, 3000, 1}, {2, 1500, 3}, {1, 700, 20}, {2, 300, 130}} do
      local n = shape[2]
      local x = (pl.arange(1, shape[1]*n*shape[3])*7919 % 1009):to("i64"):reshape(shape)
      local below = pl.concat({pl.zeros(shape[1], 1, shape[3]):to("i64"), pl.cumsum(x, 2)}, 2)
      for _, w in ipairs {1, 2, 63, 64, 65, 200, 299, 511, 512, 513, 1300, 2999} do
        if w <= n then
          local want = below(":", {w + 1, n + 1}, ":") - below(":", {1, n - w + 1}, ":")
          assert.is_true(pl.all(pl.rolling_sum(x, w, 2):eq(want)))
        end
      end
    end
  end)

  it("add without the error of a running sum", function()
    local x = pl.rng(7):normal(4000) + 1e8
    local sum = pl.rolling_sum(x, 1000)
    local exact = pl.rolling_sum(((x - 1e8)*2^26):to("i64"), 1000):to("f64")/2^26 + 1e11 -- x is a whole number of 2^-26
    assert.is_true(pl.max(pl.abs(sum/exact - 1)):item() < 10*2^-53)
  end)

  it("largest and smallest", function()
    local x = pl.rng(8):normal(2, 50)
    for _, w in ipairs {1, 2, 3, 5, 8, 29, 50} do
      local largest, smallest = pl.rolling_max(x, w), pl.rolling_min(x, w)
      for k = 1, 50 - w + 1, 7 do
        assert.are.equal(pl.max(x(2, {k, k + w - 1})):item(), largest:item(2, k))
        assert.are.equal(pl.min(x(2, {k, k + w - 1})):item(), smallest:item(2, k))
      end
    end
    same(pl.grad(function(v) return pl.sum(pl.rolling_max(v, 3)) end)(pl.tensor{1, 5, 2, 3, 4}), {0, 2, 0, 0, 1})
    same(pl.rolling_max(pl.tensor({1, 3, 2}, {dtype = "i64"}), 2), {3, 3})
    same(pl.grad(function(v) return pl.sum(pl.rolling_max(v, 3)) end)(pl.tensor{2, 2, 2}), {0.25, 0.5, 0.25})
    same(pl.grad(function(v) return pl.sum(pl.rolling_min(v, 3)^2) end)(pl.tensor{1, 3, 3, 0, 5}), {2, 0, 0, 0, 0})
    local J = pl.sparse_jacobian(function(v) return pl.rolling_max(v, 2) end)(pl.tensor{1, 3, 2, 5})
    same(J:dense(), {{0, 1, 0, 0}, {0, 1, 0, 0}, {0, 0, 0, 1}})
    assert.are.equal(6, J.nnz)
    same(pl.map(function(v) return pl.rolling_max(v, 2) end, pl.tensor{{1, 2, 3}, {4, 6, 5}}), {{2, 3}, {6, 6}})
    fails("rolling_max: a window of 4 does not fit the 3 elements of axis 1", pl.rolling_max, pl.ones(3), 4)
    J = pl.sparse_jacobian(function(v) return pl.rolling_sum(v, 3) end)(pl.ones(6))
    same(J:dense(), {{1, 1, 1, 0, 0, 0}, {0, 1, 1, 1, 0, 0}, {0, 0, 1, 1, 1, 0}, {0, 0, 0, 1, 1, 1}})
    same(pl.map(function(v) return pl.rolling_sum(v, 2) end, pl.tensor{{1, 2, 3}, {4, 5, 6}}), {{3, 5}, {9, 11}})
  end)

  it("largest and smallest at any width, layout and type", function()
    for _, shape in ipairs{{1, 3000, 1}, {2, 1500, 3}, {2, 300, 130}} do
      local n = shape[2]
      local number = (pl.arange(1, shape[1]*n*shape[3])*7919 % 1009):to("i64"):reshape(shape)
      for _, dtype in ipairs{"i64", "f64", "f32"} do
        local x = number:to(dtype)
        for _, w in ipairs{1, 2, 63, 64, 65, 200, 299, 513, 1300, 2999} do
          if w <= n then
            local largest, smallest = pl.rolling_max(x, w, 2), pl.rolling_min(x, w, 2)
            pl.with({threads = 1}, function() assert.are.equal(largest:bytes(), pl.rolling_max(x, w, 2):bytes()) end)
            for _, k in ipairs{1, math.ceil((n - w + 1)/3), n - w + 1} do
              local part = x(":", {k, k + w - 1}, ":")
              assert.is_true(pl.all(largest(":", k, ":"):eq(pl.max(part, 2))))
              assert.is_true(pl.all(smallest(":", k, ":"):eq(pl.min(part, 2))))
            end
          end
        end
      end
    end
    local x = pl.where(pl.arange(1, 900):eq(600), nan, 1)
    same(pl.isnan(pl.rolling_max(x, 100)):to("f64"), pl.logical_and(pl.arange(1, 801):gt(500), pl.arange(1, 801):le(600)):to("f64"):totable())
  end)

  it("keep the variance of small noise on large values; equal ones have none, with derivative 0", function()
    local noise = pl.rng(6):normal(200)
    local exact, off = pl.rolling_var(noise, 50), pl.rolling_var(noise + 2^40, 50)
    local rounded = pl.rolling_var((noise + 2^40) - 2^40, 50) -- the same data, exactly
    assert.is_true(pl.max(pl.abs(off - rounded)):item() < 1e-3*pl.max(exact):item())
    same(pl.rolling_std(pl.ones(4), 3), {0, 0})
    same(pl.grad(function(x) return pl.sum(pl.rolling_std(x, 3)) end)(pl.ones(4)), {0, 0, 0, 0})
    assert.is_true(pl.check_grad(function(x) return pl.sum(pl.rolling_std(x, 4)^3) end, noise).gradient > 1.9)
  end)

  it("bad input", function()
    fails("rolling_sum: a window of 6 does not fit the 5 elements of axis 1", pl.rolling_sum, pl.ones(5), 6)
    fails("rolling_mean: a window of 0", pl.rolling_mean, pl.ones(5), 0)
    fails("rolling_var: a window of 1 is too short for ddof 1", pl.rolling_var, pl.ones(5), 1, {ddof = 1})
    fails("single number", pl.rolling_sum, pl.tensor(3), 1)
  end)
end)

describe("segments", function()
  local x = pl.tensor{{1, 7}, {4, 2}, {3, 7}}
  local at = pl.tensor({3, 1, 3}, {dtype = "i64"})
  it("largest, smallest and mean of each; what an empty one has", function()
    same(pl.segment_max(x, at, 3), {{4, 2}, {-math.huge, -math.huge}, {3, 7}})
    same(pl.segment_min(x, at, 3), {{4, 2}, {math.huge, math.huge}, {1, 7}})
    local mean = pl.segment_mean(x, at, 3)
    same(mean({1, 3, 2}, ":"), {{4, 2}, {2, 7}})
    assert.is_true(pl.all(pl.isnan(mean(2, ":"))))
    same(pl.segment_max(pl.tensor({5, 6, 7}, {dtype = "i64"}), at, 3), {6, -math.huge, 7})
    assert.is_true(pl.isnan(pl.segment_max(pl.tensor{0/0, 1, 2}, at, 3)):item(3))
    assert.are.same({0, 4}, pl.segment_max(pl.zeros(0, 4), pl.zeros(0):to("i64"), 0).shape)
  end)
  it("ties share the derivative", function()
    local g = pl.grad(function(v) return pl.sum(pl.segment_max(v, at, 3)({1, 3, 2}, ":")) end)(x)
    same(g, {{0, 0.5}, {1, 1}, {1, 0.5}})
    assert.is_true(pl.check_grad(function(v) return pl.sum(pl.exp(pl.segment_mean(v, at, 3)(3, ":"))) end, x).gradient > 1.9)
  end)
  it("bad input", function()
    fails("segment_max: max_at: index 3 (entry 1) is out of range 1 to 2", pl.segment_max, x, at, 2)
    fails("segment_min: shapes {3, 2} and {2}", pl.segment_min, x, at("1:2"), 3)
    fails("segment_mean: -1 is no number of segments", pl.segment_mean, x, at, -1)
  end)
end)
