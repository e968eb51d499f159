-- Variates and densities against tests/data/distributions.csv (SciPy and mpmath; distributions.py makes it), closed forms and each other.
local pl = require "perilune"
local core = require "perilune.core"
local dist = pl.dist

local fails = require("tests.expect").fails
local function same(a, b) assert.are.equal(a:bytes(), b:bytes()) end
local function near(a, b, tolerance)
  assert.is_true(math.abs(a - b) <= tolerance, ("%.17g is not %.17g within %g"):format(a, b, tolerance))
end
local function numbers(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = tonumber(word) end
  return list
end
-- Lines of a kind: f(name, parameters, the first of each pair, the second).
local function each(what, f)
  local count = 0
  for line in io.lines "tests/data/distributions.csv" do
    local kind, name, parameters, values = line:match "^([^,]*),([^,]*),([^,]*),(.*)$"
    if kind == what then
      count = count + 1
      local list, first, second = numbers(values), {}, {}
      local head = #list % 2
      for k = head + 1, #list, 2 do first[#first + 1], second[#second + 1] = list[k], list[k + 1] end
      f(name, numbers(parameters), first, second, list[1])
    end
  end
  assert.is_true(count > 0)
end

-- Draws of a line's distribution; the parameters stand where log_prob has them.
local function draws(rng, name, p, n)
  if name == "uniform" then return rng:uniform(n, {lo = p[1], hi = p[2]}) end
  if name == "normal" then return p[1] + p[2]*rng:normal(n) end
  if name == "exponential" then return rng:exponential(n, {scale = p[1]}) end
  if name == "laplace" or name == "cauchy" then return rng[name](rng, n, {loc = p[1], scale = p[2]}) end
  if name == "gamma" then return rng:gamma(p[1], n, {scale = p[2]}) end
  if p[2] then return rng[name](rng, p[1], p[2], n) end
  return rng[name](rng, p[1], n)
end

describe("densities", function()
  it("log_prob as SciPy's and mpmath's", function()
    each("log_prob", function(name, p, x, want)
      local got = dist[name].log_prob(pl.tensor(x), unpack(p))
      -- what rounding x makes of it, and the terms that cancel
      local slope = name ~= "poisson" and name ~= "binomial" and pl.grad(function(t) return pl.sum(dist[name].log_prob(t, unpack(p)) + 0*t) end)(pl.tensor(x))
      local terms = name == "beta" and 1e4 or name == "gamma" and p[1]*10 or (name == "binomial" or name == "poisson") and p[1]*14 or 1
      for k = 1, #x do
        near(got:item(k), want[k], 1e-15*(4*terms + 8*math.abs(want[k]) + (slope and math.abs(slope:item(k)*x[k])*4 or 0)))
      end
    end)
    each("vectors", function(_, p, x, want)
      local C = pl.tensor(p):reshape(3, 3)
      for _, o in ipairs{{covariance = C}, {cholesky = pl.cholesky(C)}} do
        local got = dist.multivariate_normal.log_prob(pl.tensor(x):reshape(3, 3), pl.tensor{1, 0, -1}, o)
        for k = 1, 3 do near(got:item(k), want[3*k], 1e-13) end
        near(dist.multivariate_normal.log_prob({x[1], x[2], x[3]}, {1, 0, -1}, o):item(), want[1], 1e-13)
      end
    end)
  end)

  it("cdf as SciPy's and mpmath's", function()
    each("cdf", function(name, p, x, want)
      if not dist[name].cdf then return end
      local got = dist[name].cdf(pl.tensor(x), unpack(p))
      local density = pl.exp(dist[name].log_prob(pl.tensor(x), unpack(p)))
      for k = 1, #x do near(got:item(k), want[k], 1e-12*want[k] + 4e-16*density:item(k)*math.abs(x[k])) end
    end)
    near(dist.normal.log_cdf(-40, 0, 1):item(), -804.60844201375379, 1e-12)
    near(dist.normal.log_cdf(9, 0, 1):item(), -1.1285884059538406e-19, 4e-33)
    assert.are.same({0, 0.5, 1}, dist.uniform.cdf(pl.tensor{-1, 0.5, 2}):totable())
    assert.are.same({0, 0}, dist.lognormal.cdf(pl.tensor{-1, 0}, 0, 1):totable())
    assert.are.same({0, 0}, dist.exponential.cdf(pl.tensor{-1, 0}, 2):totable())
    assert.are.same({0, 1}, dist.truncated_normal.cdf(pl.tensor{-1, 5}, 0, 2):totable())
    assert.are.same({0, 0, 1}, dist.gamma.cdf(pl.tensor{-1, 0, math.huge}, 2, 3):totable())
    assert.are.same({0, 0, 1, 1}, dist.beta.cdf(pl.tensor{-1, 0, 1, 2}, 2, 3):totable())
    assert.are.same({0, 0, 0, 0}, pl.grad(function(t) return pl.sum(dist.gamma.cdf(t(1), 2, 3) + dist.beta.cdf(t({2, 4}), 2, 3)) end)(
      pl.tensor{-1, -1, 2, 1}):totable())
    -- mpmath's figures: no digits are lost in either tail
    for _, case in ipairs{{3, 40, 1.7190340394579264e-05}, {1e6, 12, 1.7858425623825450e-33}} do
      near(dist.student_t.cdf(-case[2], case[1]):item()/case[3], 1, 1e-13)
      near(dist.student_t.cdf(5 - case[2]*2, case[1], 5, 2):item()/case[3], 1, 1e-13)
    end
  end)

  it("are -inf outside, with a derivative of 0", function()
    local none = -math.huge
    for _, case in ipairs{
      {dist.uniform, {-1, 2}, 0, 1}, {dist.truncated_normal, {-1, 2}, 0, 1}, {dist.lognormal, {-1, 0}, 0, 1}, {dist.exponential, {-1}, 2},
      {dist.gamma, {-1}, 2, 1}, {dist.beta, {-1, 2}, 2, 2}, {dist.bernoulli, {-1, 0.5, 2}, 0.3}, {dist.poisson, {-1, 0.5}, 3},
      {dist.binomial, {-1, 0.5, 6}, 5, 0.3},
    } do
      local f, x, p, q = case[1].log_prob, case[2], case[3], case[4]
      for _, v in ipairs(x) do
        local y, g = pl.value_and_grad(function(t) return f(t.x, t.p, t.q) + 0*(t.x + t.p + (t.q or 0)) end)({x = v*1.0, p = p, q = q})
        assert.are.equal(none, y:item())
        assert.are.same({0, 0}, {g.x, g.p})
        assert.is_true(g.q == 0 or g.q == nil)
      end
    end
    assert.are.same({0, none}, dist.poisson.log_prob(pl.tensor{0, 1}, 0):totable())
    for p = 0, 1 do
      local y = dist.binomial.log_prob(pl.tensor{3*p, 1}, 3, p)
      near(y:item(1), 0, 1e-15)
      assert.are.equal(none, y:item(2))
    end
    assert.are.same({0, none, math.huge}, {dist.gamma.log_prob(0, 1):item(), dist.gamma.log_prob(0, 2):item(), dist.gamma.log_prob(0, 0.5):item()})
    near(pl.grad(function(a) return dist.beta.log_prob(0.3, a, 2) end)(1), math.log(0.3) + 1.5, 1e-14) -- not lost at a = 1
    assert.is_true(pl.all(pl.isnan(dist.normal.log_prob(0, 0, pl.tensor{-1}))))
    assert.is_true(pl.all(pl.isnan(dist.gamma.log_prob(pl.tensor{0/0}, 2))))
  end)

  it("have right slopes in x and the parameters", function()
    local x, c = pl.tensor{0.2, 0.6, 0.85}, pl.tensor{1, -0.5, 2}
    for _, case in ipairs{
      {dist.normal, 0.3, 1.2}, {dist.lognormal, 0.3, 1.2}, {dist.laplace, 0.3, 1.2}, {dist.cauchy, 0.3, 1.2}, {dist.gamma, 2.3, 1.2}, {dist.beta, 2.3, 1.2},
      {dist.student_t, 2.3, 1.2}, {dist.exponential, 0.7}, {dist.truncated_normal, -0.1, 1.2}, {dist.uniform, -0.1, 1.2},
    } do
      pl.check_grad(function(t) return pl.sum(case[1].log_prob(t.x, t.p, t.q) + 0*t.x) end, {x = x, p = case[2], q = case[3]})
      local cdf, p, q = case[1].cdf, case[2], case[3]
      if case[1] == dist.gamma or case[1] == dist.beta or case[1] == dist.student_t then -- once in the shapes
        pl.check_grad(function(t) return pl.sum(cdf(t, p, q)*c) end, x)
        local f = function(t) return pl.sum(cdf(x, t.p, t.q)*c) end
        local g, h = pl.grad(f)({p = p, q = q}), 1e-5
        near(g.p, (f({p = p + h, q = q}) - f({p = p - h, q = q})):item()/(2*h), 1e-9)
        near(g.q, (f({p = p, q = q + h}) - f({p = p, q = q - h})):item()/(2*h), 1e-9)
      else
        pl.check_grad(function(t) return pl.sum(cdf(t.x, t.p, t.q)*c) end, {x = x, p = p, q = q})
      end
    end
    pl.check_grad(function(t) return pl.sum(dist.truncated_normal.log_prob(t.x, 40, t.hi, t.mean, t.std)) end, {x = x + 40, hi = 41.5, mean = 0.1, std = 1.1})
    local k = pl.tensor{0, 2, 5}
    pl.check_grad(function(p) return pl.sum(dist.binomial.log_prob(k, 5, p)*c) + pl.sum(dist.bernoulli.log_prob(pl.tensor{0, 1, 1}, p)*c) end, 0.3)
    pl.check_grad(function(p) return pl.sum(dist.poisson.log_prob(k, p)*c) end, 1.3)
    local places = pl.tensor({1, 3, 2, 3}, {dtype = "i64"})
    for _, o in ipairs{{logits = true}, {logits = false}} do
      pl.check_grad(function(w) return pl.sum(dist.categorical.log_prob(places, w, o)) end, pl.tensor{0.2, 0.5, 0.9})
      pl.check_grad(function(w) return pl.sum(dist.categorical.log_prob(places["1:2"], w, o)) end, pl.tensor{{0.2, 0.5, 0.9}, {0.3, 0.1, 0.2}})
    end
    near(dist.categorical.log_prob(2, {1, 3}):item(), math.log(0.75), 1e-15)
    near(dist.categorical.log_prob(2, {0, math.log(3)}, {logits = true}):item(), math.log(0.75), 1e-15)
    pl.check_grad(function(t) return pl.sum(dist.multivariate_normal.log_prob(t.x, t.m, {covariance = pl.matmul(t.A, t.A.T) + pl.eye(3)})) end,
      {x = pl.tensor{{1, 2, 3}, {0, 1, 0}}, m = pl.tensor{0.1, 0.2, 0.3}, A = pl.tensor{{1, 0.2, 0}, {0.3, 1, 0.1}, {0, 0.5, 2}}})
  end)
end)

describe("variates", function()
  local n = 100000

  it("have the distribution functions of SciPy and mpmath (Kolmogorov and Smirnov's distance at 1e-4)", function()
    local rng = pl.rng(1)
    each("quantiles", function(name, p, probability, quantile)
      local x = draws(rng, name, p, n)
      assert.are.equal(0, pl.sum(pl.isnan(x):to("f64")):item())
      -- how many are at or below each quantile
      local place = pl.searchsorted(pl.tensor(quantile), x)
      local count = pl.cumsum(pl.bincount(place, {n = #quantile + 1}))
      for k = 1, #quantile do
        if quantile[k] ~= quantile[k + 1] then
          near(count:item(k)/n, probability[k], math.sqrt(-0.5*math.log(1e-4/2)/n))
        end
      end
    end)
  end)

  it("of the gamma, beta and t distributions: Kolmogorov and Smirnov's distance over all draws, by cdf", function()
    local rng, m = pl.rng(3), 20000
    local rank = pl.arange(1, m)/m
    for _, case in ipairs{
      {"gamma", 0.3}, {"gamma", 1}, {"gamma", 2.5, 3}, {"gamma", 700}, {"beta", 0.2, 0.4}, {"beta", 2.5, 1}, {"beta", 0.5, 30}, {"beta", 900, 1200},
      {"student_t", 0.7}, {"student_t", 3}, {"student_t", 50}, {"student_t", 1e6},
    } do
      local name, p, q = unpack(case)
      local x = pl.sort(draws(rng, name, {p, name == "gamma" and (q or 1) or q}, m))
      local distance = pl.max(pl.abs(dist[name].cdf(x, p, name == "beta" and q or name == "gamma" and (q or 1) or nil) - rank)):item()
      assert.is_true(distance < math.sqrt(-0.5*math.log(1e-4/2)/m), ("%s %g: %g"):format(name, p, distance))
    end
  end)

  it("truncated normal: quantiles and the mass to the last digits, in the tails too", function()
    each("quantiles", function(name, p, u, want)
      if name ~= "truncated_normal" then return end
      local z = pl.truncated_normal_quantile(pl.tensor(u), p[1], p[2])
      local lo, hi = math.max(p[1], -10), math.min(p[2], 10)
      local width = (p[1] > 5 or p[2] < -5) and 1/math.min(math.abs(p[1]), math.abs(p[2])) or hi - lo
      for k = 2, #u do -- and what rounding u makes of it
        near(z:item(k), want[k], 4e-15*width + 5e-16*math.abs(want[k]) + 2e-16*(want[k] - want[k - 1])/(u[k] - u[k - 1]))
      end
    end)
    each("mass", function(_, p, _, _, want) near(pl.log_normal_mass(p[1], p[2]):item(), want, 1e-15*(1 + math.abs(want))) end)
    local inf = math.huge
    assert.are.same({-inf, -inf, -inf}, pl.log_normal_mass(pl.tensor{3, 2, 3}, pl.tensor{3, 1, 2}):totable())
    assert.are.same({2, -inf, inf}, pl.truncated_normal_quantile(pl.tensor{0.3, 0, 1}, pl.tensor{2, -inf, -inf}, pl.tensor{2, inf, inf}):totable())
    assert.is_true(pl.all(pl.isnan(pl.truncated_normal_quantile(0.5, pl.tensor{2, 0/0, inf, 0}, pl.tensor{1, 2, inf, 0/0}))))
    assert.is_true(pl.all(pl.isnan(pl.truncated_normal_quantile(pl.tensor{-0.1, 1.1, 0/0}, 0, 1))))
  end)

  it("of whole numbers: chi-square at 1e-4", function()
    local rng = pl.rng(2)
    each("bins", function(name, p, last, probability, critical)
      local x = draws(rng, name, p, n)
      same(x, pl.floor(x))
      local count, sum = pl.bincount(pl.searchsorted(pl.tensor(last), x), {n = #last}), 0
      for k = 1, #last do sum = sum + (count:item(k) - n*probability[k])^2/(n*probability[k]) end
      assert.is_true(sum < critical, ("%s %g: %g"):format(name, p[1], sum))
    end)
    assert.are.same({0, 5, 0, 1, 0}, {rng:binomial(5, 0):item(), rng:binomial(5, 1):item(), rng:binomial(0, 0.5):item(), rng:bernoulli(1):item(), rng:poisson(0):item()})
    near(pl.mean(rng:bernoulli(0.3, n)):item(), 0.3, 4*math.sqrt(0.21/n))
    -- far beyond what a sum of logarithms could tell
    local x = (rng:poisson(1e14, n) - 1e14)/1e7
    near(pl.mean(x):item(), 0, 4/math.sqrt(n))
    near(pl.var(x):item(), 1, 4*math.sqrt(2/n))
    local w = {1, 2, 0, 4, 3}
    for _, k in ipairs{rng:categorical(w, n), rng:categorical(pl.log(pl.tensor(w)), n, {logits = true}), rng:choice(5, n, {weights = w}),
      rng:categorical(pl.tensor{w, {1, 0, 0, 0, 0}}, n, 2)(":", 1)} do
      local count, sum = pl.bincount(k, {n = 5}), 0
      for i = 1, 5 do if i ~= 3 then sum = sum + (count:item(i) - n*w[i]/10)^2/(n*w[i]/10) end end
      assert.are.equal(0, count:item(3))
      assert.is_true(sum < 21.1)
    end
    assert.are.same({2, 2}, rng:categorical(pl.tensor{{0, 1, 0}, {0, 0.5, 0}}):totable())
  end)

  it("take tensors as parameters: each number's own, as from the number alone", function()
    local a = pl.tensor{0.3, 4, 70}
    for _, f in ipairs{
      function(r, p, ...) return r:gamma(p, ...) end, function(r, p, ...) return r:poisson(p, ...) end, function(r, p, ...) return r:binomial(100, p/100, ...) end,
      function(r, p, ...) return r:beta(p, 2, ...) end, function(r, p, ...) return r:student_t(p, ...) end, function(r, p, ...) return r:lognormal(1, p, ...) end,
      function(r, p, ...) return r:truncated_normal(p, math.huge, ...) end, function(r, p, k, m) return r:exponential(k, m, {scale = p}) end,
    } do
      local all = f(pl.rng(3), a, 200, 3)
      assert.are.same({200, 3}, all.shape)
      for k = 1, 3 do
        local one = f(pl.rng(3), a:item(k), 200, 3)
        assert.is_true(pl.max(pl.abs(all(":", k) - one(":", k))):item() <= 1e-14*pl.max(pl.abs(one)):item())
      end
    end
    assert.are.same({3}, pl.rng(1):gamma(a).shape)
    assert.are.same({2, 3}, pl.rng(1):beta(a, pl.ones(2, 1)).shape)
    assert.are.same({}, pl.rng(1):gamma(2).shape)
    assert.are.same({0}, pl.rng(1):poisson(2, 0).shape)
    local bad = pl.tensor{-1, 0/0}
    for _, x in ipairs{pl.rng(1):gamma(bad), pl.rng(1):poisson(bad), pl.rng(1):binomial(bad, 0.5), pl.rng(1):bernoulli(bad), pl.rng(1):exponential{scale = bad},
      pl.rng(1):lognormal(0, bad), pl.rng(1):binomial(pl.tensor{1.5}, 0.5), pl.rng(1):bernoulli(pl.tensor{1.1})} do
      assert.is_true(pl.all(pl.isnan(x)))
    end
  end)

  it("multivariate normal has the mean and the covariance", function()
    local C, rng = pl.tensor{{2, 0.6}, {0.6, 1}}, pl.rng(5)
    for _, o in ipairs{{covariance = C}, {cholesky = pl.cholesky(C)}} do
      local x = rng:multivariate_normal({1, -2}, n, o)
      local m = pl.mean(x, 1)
      near(m:item(1), 1, 4*math.sqrt(2/n))
      near(m:item(2), -2, 4*math.sqrt(1/n))
      local S = pl.matmul((x - m).T, x - m)/n
      assert.is_true(pl.max(pl.abs(S - C)):item() < 4*math.sqrt(8/n))
    end
    assert.are.same({2}, rng:multivariate_normal({1, 2}, {covariance = C}).shape)
    assert.are.same({3, 4, 2}, rng:multivariate_normal({1, 2}, 3, 4, {covariance = C}).shape)
    assert.are.same({5, 2}, rng:multivariate_normal(pl.ones(5, 2), {covariance = C}).shape)
    pl.check_grad(function(p) return pl.sum(pl.rng(1):multivariate_normal(p.m, 3, {covariance = pl.matmul(p.A, p.A.T) + pl.eye(2)})^2) end,
      {m = pl.tensor{1, 2}, A = pl.tensor{{1, 0.5}, {0.2, 1}}})
  end)

  it("permutations are all equally likely; a tensor's entries move whole", function()
    local rng, seen = pl.rng(6), {}
    local p = pl.map(function() return rng:permutation(4) end, pl.zeros(24000)):totable()
    for _, x in ipairs(p) do
      local key = table.concat(x, " ")
      seen[key] = (seen[key] or 0) + 1
    end
    local kinds, sum = 0, 0
    for _, count in pairs(seen) do kinds, sum = kinds + 1, sum + (count - 1000)^2/1000 end
    assert.are.equal(24, kinds)
    assert.is_true(sum < 58.6, sum) -- 23 degrees of freedom
    local x = pl.arange(1, 6):reshape(3, 2)
    local k = pl.rng(7):permutation(3)
    same(pl.rng(7):permutation(x), x(k))
    local y = x*1
    same(pl.grad(function(t) return pl.sum(pl.rng(7):permutation(t)*y) end)(x)(k), y)
    same(pl.sort(rng:permutation(1000)), pl.arange(1, 1000, 1, {dtype = "i64"}))
    assert.are.same({0}, rng:permutation(0).shape)
    assert.are.same({1}, rng:permutation(1):totable())
  end)

  it("long permutations go through buckets: each number once, and where it stands does not tell which it is", function()
    local many = 40000
    local k, all = pl.rng(6):permutation(many), pl.arange(1, many, 1, {dtype = "i64"})
    same(pl.sort(k), all)
    pl.with({threads = 1}, function() same(pl.rng(6):permutation(many), k) end)
    -- how many of each 200 neighbours are of each 200th of the numbers: 200 of 200 x 200 cells each, a little less free
    local cell = pl.floor((pl.arange(1, many) - 1)/200)*200 + pl.floor((k:to("f64") - 1)/200) + 1
    local x = pl.sum((pl.bincount(cell:to("i64"), many) - 1)^2):item()
    local free = 199^2
    assert.is_true(math.abs(x - free) < 4*math.sqrt(2*free), x)
    -- fixed points are Poisson of mean 1, and so are neighbours that stay neighbours
    local fixed, pairs_ = 0, 0
    for r = 1, 40 do
      local p = pl.rng(100 + r):permutation(20000)
      fixed = fixed + pl.sum(p:eq(pl.arange(1, 20000, 1, {dtype = "i64"})):to("i64")):item()
      pairs_ = pairs_ + pl.sum((p({2, 20000}) - p({1, 19999})):eq(1):to("i64")):item()
    end
    assert.is_true(math.abs(fixed - 40) < 25 and math.abs(pairs_ - 40) < 25, fixed .. " " .. pairs_)
    local one, other = pl.rng(9), pl.rng(9)
    local rows = pl.map(function() return one:permutation(17000) end, pl.zeros(2))
    for r = 1, 2 do same(rows(r, ":"), other:permutation(17000)) end
  end)

  it("choice: with and without replacement, by weights", function()
    local rng = pl.rng(8)
    local all = rng:choice(1000, 400, {replace = false}):totable()
    local seen = {}
    for _, k in ipairs(all) do
      assert.is_true(k >= 1 and k <= 1000 and not seen[k])
      seen[k] = true
    end
    -- without replacement of 3 by weights 1, 2, 3: the first is k with w_k/6, then j with w_j/(6 - w_k)
    local pairs_ = pl.map(function() return rng:choice(3, 2, {replace = false, weights = {1, 2, 3}}) end, pl.zeros(n/10))
    local code = pairs_(":", 1)*3 + pairs_(":", 2) - 3
    local count, sum = pl.bincount(code, {n = 9}), 0
    for i = 1, 3 do
      for j = 1, 3 do
        local want = i ~= j and n/10*i/6*j/(6 - i) or 0
        if want > 0 then sum = sum + (count:item(3*i + j - 3) - want)^2/want else assert.are.equal(0, count:item(3*i + j - 3)) end
      end
    end
    assert.is_true(sum < 25.7)
    local x = pl.tensor{{1, 2}, {3, 4}, {5, 6}}
    same(pl.rng(9):choice(x, 5), x(pl.rng(9):choice(3, 5)))
    same(pl.rng(9):choice(x, 2, {replace = false}), x(pl.rng(9):choice(3, 2, {replace = false})))
    assert.are.same({0}, rng:choice(5, 0).shape)
    assert.are.same({0}, rng:choice(0, 0, {replace = false}).shape)
    assert.are.same({4, 2}, pl.sort(rng:choice(4, 2, {replace = false, weights = {0, 1, 0, 1}}), {descending = true}):totable())
  end)
end)

describe("variates in programs", function()
  local P = pl.tensor{0.4, 3, 80}
  -- everything that is drawn, from p {3}
  local function f(r)
    return function(p)
      return pl.concat({r:gamma(p), r:poisson(p), r:binomial(90, p/90), r:beta(p, 2), r:student_t(p, 3), r:truncated_normal(p, p + 1), r:lognormal(0, p),
        r:exponential{scale = p}, r:laplace{loc = p}, r:cauchy(3), r:uniform(3, {lo = p*-1}), r:gamma(2.5, 3), r:bernoulli(0.5, 3),
        r:multivariate_normal(p, {cholesky = pl.eye(3)}), r:categorical(p, 3)*1.0, r:permutation(p), r:choice(p, 2, {replace = false}),
        r:choice(p, 4, {weights = p})}, {axis = 1})
    end
  end

  it("are those of the function itself: compiled, mapped, in loops, on any number of threads", function()
    local a, b = pl.rng(4), pl.rng(4)
    local c, e = pl.compile(f(a)), f(b)
    for _ = 1, 2 do same(c(P), e(P)) end
    assert.are.equal(b.position, a.position)
    local xs = pl.stack({P, P*0.5, P + 1}, {axis = 1})
    a, b = pl.rng(5), pl.rng(5)
    local mapped, g = pl.map(f(a), xs), f(b)
    for k = 1, 3 do same(mapped[k], g(xs[k])) end
    assert.are.equal(b.position, a.position)
    a, b = pl.rng(6), pl.rng(6)
    local h = f(a)
    local _, looped = pl.scan(function(s, x) return s, h(x) end, 0.0, xs)
    g = f(b)
    for k = 1, 3 do same(looped[k], g(xs[k])) end
    -- a stream made inside: the same numbers for each entry, other parameters
    mapped = pl.map(function(p) return pl.rng(7):poisson(p) end, xs)
    for k = 1, 3 do same(mapped[k], pl.rng(7):poisson(xs[k])) end
    local function large() return pl.rng(1):gamma(0.7, 30000), pl.rng(1):poisson(30, 30000), pl.rng(1):normal(30000), pl.rng(1):binomial(1000, 0.4, 30000) end
    core.threads(1)
    local one = {large()}
    core.threads(2)
    local two = {large()}
    core.threads(0)
    for k = 1, 4 do same(one[k], two[k]) end
  end)

  it("depend on place alone: each number is that of its position", function()
    for _, draw in ipairs{function(r, n) return r:gamma(0.7, n) end, function(r, n) return r:poisson(30, n) end, function(r, n) return r:normal(n) end,
      function(r, n) return r:binomial(1000, 0.4, n) end, function(r, n) return r:uniform(n) end} do
      local r, all = pl.rng(2), draw(pl.rng(2), 300)
      for first = 1, 300, 7 do same(draw(r, 7)["1:" .. math.min(7, 301 - first)], all[{first, math.min(first + 6, 300)}]) end
    end
  end)
end)

describe("gradients through variates", function()
  it("follow the formulas on the base draw", function()
    for _, g in ipairs{
      function(p) return pl.rng(1):lognormal(p.a, p.b, 5) end, function(p) return pl.rng(1):exponential(5, {scale = p.a}) end,
      function(p) return pl.rng(1):laplace(5, {loc = p.a, scale = p.b}) end, function(p) return pl.rng(1):cauchy(5, {loc = p.a, scale = p.b}) end,
      function(p) return pl.rng(1):uniform(5, {lo = p.a, hi = p.b + 1}) end,
      function(p) return pl.rng(1):truncated_normal(p.a, p.b + 1, 5, {mean = p.b, std = p.a}) end,
      function(p) return pl.rng(1):truncated_normal(p.a + 30, p.b + 31, 5) end,
    } do
      pl.check_grad(function(p) return pl.sum(pl.sin(g(p)) + 0*p.b) end, {a = 0.7, b = 0.9})
    end
  end)

  it("of gamma variates in their shape are those of the quantile", function()
    -- log F(a, x) - log(x^a e^-x/Gamma(a + 1)), by the series
    local function series(a, x)
      local term, sum = 1, 1
      for k = 1, 20000 do
        term = term*x/(a + k)
        sum = sum + term
        if term < 1e-18*sum then break end
      end
      return sum
    end
    for _, a in ipairs{0.01, 0.3, 0.999, 1, 2, 7.5, 60, 1e4} do
      local x = pl.rng(1):gamma(a, 40)
      local g = pl.grad(function(p) return pl.sum(pl.log(pl.rng(1):gamma(p))) end)(pl.full({40}, a))
      for k = 1, 40 do
        local t, h = x:item(k), 1e-4*math.min(a, math.sqrt(a))
        -- -F_a/(x f), where F = x f S/a: -(S'/a - S/a^2 + (log x - psi(a)) S/a)
        local S, up, down = series(a, t), series(a + h, t), series(a - h, t)
        local want = -((up - down)/(2*h) - S/a + (math.log(t) - pl.digamma(a):item())*S)/a
        if t > 1e-300 and t < a + 3*math.sqrt(a) then near(g:item(k), want, 2e-6*(math.abs(want) + S/a)) end
      end
    end
  end)

  it("have the derivatives of the moments as means", function()
    local n = 50000
    local function slope(f, p) -- the mean of the derivatives with its standard error
      local g = pl.grad(function(t) return pl.sum(f(pl.rng(12), t)) end)(pl.full({n}, p))
      return pl.mean(g):item(), 5*math.sqrt(pl.var(g):item()/n)
    end
    for _, a in ipairs{0.05, 0.7, 3, 200} do
      local g, e = slope(function(r, t) return r:gamma(t, {scale = 2}) end, a)
      near(g, 2, e)
      g, e = slope(function(r, t) return pl.log(r:gamma(t)) end, a)
      near(g, pl.polygamma(a, 1):item(), e)
    end
    local g, e = slope(function(r, t) return r:gamma(2, {scale = t}) end, 3)
    near(g, 2, e)
    g, e = slope(function(r, t) return r:beta(t, 1.5) end, 0.6)
    near(g, 1.5/2.1^2, e)
    g, e = slope(function(r, t) return r:beta(0.6, t) end, 1.5)
    near(g, -0.6/2.1^2, e)
    g, e = slope(function(r, t) return r:student_t(t)^2 end, 10)
    near(g, -2/64, e)
  end)

  it("are the same in programs; the second in a gamma variate's shape is an error", function()
    local a = pl.tensor{0.4, 3, 80}
    local function f(r) return function(p) return pl.sum(r:gamma(p, 2, 3, {scale = p}) + r:beta(p, 2, 2, 3)*r:student_t(p)) end end
    local g, h = pl.grad(f(pl.rng(1)))(a), pl.grad(pl.compile(f(pl.rng(1))))(a)
    assert.is_true(pl.max(pl.abs(g/h - 1)):item() < 1e-14)
    local r, q = pl.rng(2), pl.rng(2)
    local m = pl.grad(function(p) return pl.sum(pl.map(function(x) return r:gamma(x) end, p)) end)(a)
    for k = 1, 3 do near(m:item(k), pl.grad(function(p) return q:gamma(p) end)(a:item(k)), 1e-14*m:item(k)) end
    local _, t = pl.jvp(f(pl.rng(1)), a, pl.ones(3))
    near(t:item(), pl.sum(g):item(), 1e-12*math.abs(t:item()))
    local J = pl.sparse_jacobian(function(p) return pl.rng(1):gamma(p) end)(a)
    assert.is_truthy(tostring(J):find("3 entries", 1, true))
    fails("differentiated once in their shape", pl.hvp(f(pl.rng(1))), a, pl.ones(3))
  end)

  it("of whole numbers are an error that says what to do", function()
    local r = pl.rng(1)
    for _, f in ipairs{
      function(p) return pl.sum(r:poisson(p, 3)) end, function(p) return pl.sum(r:binomial(5, p*0.1, 3)) end, function(p) return pl.sum(r:bernoulli(p*0.1, 3)) end,
      function(p) return pl.sum(r:categorical(pl.stack{p, p}, 3)*1.0)*p end, function(p) return pl.sum(r:choice(2, 3, {weights = pl.stack{p, p}})*1.0)*p end,
      function(p) return r:poisson(p):to("i64"):to("f64")*p end,
    } do
      fails("score function", pl.grad(f), 2)
      fails("stop_gradient", pl.jvp, f, 2, 1)
      fails("score function", pl.grad(pl.compile(f)), 2)
    end
    -- the score function: d/dp E[k^2] of Poisson counts is 1 + 2 p
    local n = 200000
    local g = pl.grad(function(p)
      local k = pl.rng(3):poisson(pl.stop_gradient(p), n)
      return pl.mean(k^2*dist.poisson.log_prob(k, p))
    end)(2)
    near(g, 5, 0.15)
  end)
end)

describe("variates fail clearly", function()
  it("on parameters, sizes and weights", function()
    local r = pl.rng(1)
    fails("rng:gamma: shape is a positive number, not -1", r.gamma, r, -1, 3)
    fails("rng:gamma: scale is 0 or a positive number, not -2", r.gamma, r, 1, 3, {scale = -2})
    fails("rng:gamma: shape is a number or a tensor, not nil", r.gamma, r)
    fails("no option 'rate'; it has scale", r.exponential, r, 3, {rate = 1})
    fails("rng:binomial: n is a whole number, 0 or above, not 1.5", r.binomial, r, 1.5, 0.5)
    fails("rng:binomial: p is between 0 and 1, not 1.5", r.binomial, r, 1, 1.5)
    fails("rng:poisson: lambda is 0 or a positive number, not nan", r.poisson, r, 0/0)
    fails("which does not broadcast to {2}", r.poisson, r, pl.ones(3), 2)
    fails("which does not broadcast to {3}", r.beta, r, pl.ones(3), pl.ones(2))
    fails("-1 is no size of an axis", r.poisson, r, 3, -1)
    fails("the range 2 to 1 is empty", r.truncated_normal, r, 2, 1, 5)
    fails("fewer than 2^31", r.normal, r, 1e5, 1e5)
    fails("weights: number 2 is -1", r.categorical, r, {1, -1}, 3)
    fails("nan; they are finite and none is negative", r.categorical, r, {0/0, 1}, 3)
    fails("weights: 0 of 2 are positive; 1 must be", r.categorical, r, {0, 0}, 3)
    fails("weights: 0 of 2 are positive", pl.compile(function(w) return r:categorical(w, 3) end), pl.zeros(2))
    fails("the weights are a tensor or a list, not a number", r.categorical, r, 3)
    fails("do not broadcast to {3}", r.categorical, r, pl.ones(2, 2), 3)
    fails("5 different ones of 3", r.choice, r, 3, 5, {replace = false})
    fails("1 of 3 are positive; 2 must be", r.choice, r, 3, 2, {replace = false, weights = {0, 1, 0}})
    fails("weights of shape {2} for 3 things", r.choice, r, 3, 2, {weights = {1, 1}})
    fails("one whole number, 0 or above, not -1", r.choice, r, 3, -1)
    fails("2 of nothing", r.choice, r, 0, 2)
    fails("a number of things or a tensor", r.permutation, r, -1)
    fails("a number of things or a tensor", r.permutation, r, pl.tensor(3))
    fails("give {covariance = C} or {cholesky = L}", r.multivariate_normal, r, {1, 2})
    fails("{..., d} and {d, d} are needed", r.multivariate_normal, r, {1, 2}, {covariance = pl.eye(3)})
    fails("normal: std is a positive number, not 0", dist.normal.log_prob, 1, 0, 0)
    fails("gamma: shape is a number or a tensor, not nil", dist.gamma.log_prob, 1)
    fails("multivariate_normal has no option 'sd'", dist.multivariate_normal.log_prob, {1}, {1}, {sd = 1})
    fails("{..., d} and {d, d} are needed", dist.multivariate_normal.log_prob, {1}, {1}, {cholesky = pl.eye(2)})
  end)
end)
