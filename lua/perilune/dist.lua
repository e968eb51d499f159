-- Log densities and distribution functions: pl.dist.normal.log_prob(x, mean, std). They broadcast and are differentiated in x and in the
-- parameters; outside of the support log_prob is -inf, with a derivative of 0. rng's methods of the same names draw from them.
local core = require "perilune.core"
local check = require "perilune.domain"

local dist = {}
local where, log, exp, lgamma = core.where, core.log, core.exp, core.lgamma
local HALF_LOG_2PI, ROOT_HALF = 0.91893853320467274178, 0.70710678118654752440

local function either(a, b) return core.logical_or(a, b) end

-- f(x) but where x is outside; there x is replaced, so that nothing out of the domain is computed, by a number.
local function within(outside, x, inside, f) return where(outside, -math.huge, f(where(outside, inside, x))) end

-- a log x, and its limit at x = 0.
local function xlogy(a, x)
  local zero = core.eq(x, 0)
  local limit = where(core.eq(a, 0), 0, where(core.gt(a, 0), -math.huge, math.huge))
  return where(zero, limit, a*log(where(zero, 1, x)))
end
-- a log(1 - x), likewise
local function xlog1m(a, x)
  local one = core.eq(x, 1)
  local limit = where(core.eq(a, 0), 0, where(core.gt(a, 0), -math.huge, math.huge))
  return where(one, limit, a*core.log1p(-where(one, 0, x)))
end
local function broken(k) return core.gt(k - core.floor(k), 0) end -- not whole

local function standard(what, x, loc, scale, loc_name, scale_name)
  check(what, loc_name, "number", loc)
  check(what, scale_name, "positive", scale)
  return (x - loc)/scale
end

dist.normal = {}
--- The normal density's logarithm; mean 0 and std 1 by default.
function dist.normal.log_prob(x, mean, std)
  mean, std = mean or 0, std or 1
  local z = standard("normal", x, mean, std, "mean", "std")
  return core.square(z)*-0.5 - log(std) - HALF_LOG_2PI
end
--- P(X <= x), accurate in the lower tail.
function dist.normal.cdf(x, mean, std)
  return 0.5*core.erfc(-ROOT_HALF*standard("normal", x, mean or 0, std or 1, "mean", "std"))
end
--- log P(X <= x), in the far tail too.
function dist.normal.log_cdf(x, mean, std)
  return core.log_normal_mass(-math.huge, standard("normal", x, mean or 0, std or 1, "mean", "std"))
end

dist.truncated_normal = {}
local function bounds(x, lo, hi, mean, std)
  check("truncated_normal", "lo", "number", lo)
  check("truncated_normal", "hi", "number", hi)
  local z = standard("truncated_normal", x, mean, std, "mean", "std")
  return z, (lo - mean)/std, (hi - mean)/std
end
--- The normal density's logarithm given that lo <= X <= hi; mean 0 and std 1 by default.
function dist.truncated_normal.log_prob(x, lo, hi, mean, std)
  mean, std = mean or 0, std or 1
  local z, a, b = bounds(x, lo, hi, mean, std)
  return within(either(core.lt(x, lo), core.gt(x, hi)), z, 0, function(inside)
    return core.square(inside)*-0.5 - log(std) - HALF_LOG_2PI - core.log_normal_mass(a, b)
  end)
end
--- P(X <= x)
function dist.truncated_normal.cdf(x, lo, hi, mean, std)
  local z, a, b = bounds(x, lo, hi, mean or 0, std or 1)
  return exp(core.log_normal_mass(a, core.clip(z, a, b)) - core.log_normal_mass(a, b))
end

dist.uniform = {}
local function check_range(lo, hi)
  check("uniform", "lo", "number", lo)
  check("uniform", "hi", "number", hi)
end
--- -log(hi - lo) between lo and hi, 0 and 1 by default.
function dist.uniform.log_prob(x, lo, hi)
  lo, hi = lo or 0, hi or 1
  check_range(lo, hi)
  return where(either(core.lt(x, lo), core.gt(x, hi)), -math.huge, -log(hi - lo))
end
--- P(X <= x)
function dist.uniform.cdf(x, lo, hi)
  lo, hi = lo or 0, hi or 1
  check_range(lo, hi)
  return core.clip((x - lo)/(hi - lo), 0, 1)
end

dist.lognormal = {}
--- The log density of exp(mu + sigma z), z standard normal.
function dist.lognormal.log_prob(x, mu, sigma)
  check("lognormal", "mu", "number", mu)
  check("lognormal", "sigma", "positive", sigma)
  return within(core.le(x, 0), x, 1, function(inside)
    local y = log(inside)
    return dist.normal.log_prob(y, mu, sigma) - y
  end)
end
--- P(X <= x)
function dist.lognormal.cdf(x, mu, sigma)
  local none = core.le(x, 0)
  return where(none, 0, dist.normal.cdf(log(where(none, 1, x)), mu, sigma))
end

dist.exponential = {}
--- -x/scale - log scale for x >= 0; scale 1 by default.
function dist.exponential.log_prob(x, scale)
  scale = scale or 1
  check("exponential", "scale", "positive", scale)
  return within(core.lt(x, 0), x, 0, function(inside) return -inside/scale - log(scale) end)
end
--- P(X <= x)
function dist.exponential.cdf(x, scale)
  scale = scale or 1
  check("exponential", "scale", "positive", scale)
  return -core.expm1(-core.maximum(x, 0)/scale)
end

dist.laplace = {}
--- -|x - loc|/scale - log(2 scale); loc 0 and scale 1 by default.
function dist.laplace.log_prob(x, loc, scale)
  loc, scale = loc or 0, scale or 1
  return -core.abs(standard("laplace", x, loc, scale, "loc", "scale")) - log(2*scale)
end
--- P(X <= x)
function dist.laplace.cdf(x, loc, scale)
  local z = standard("laplace", x, loc or 0, scale or 1, "loc", "scale")
  local tail = 0.5*exp(-core.abs(z))
  return where(core.lt(z, 0), tail, 1 - tail)
end

dist.cauchy = {}
--- -log(pi scale (1 + z^2)), z = (x - loc)/scale; loc 0 and scale 1 by default.
function dist.cauchy.log_prob(x, loc, scale)
  loc, scale = loc or 0, scale or 1
  return -2*log(core.hypot(standard("cauchy", x, loc, scale, "loc", "scale"), 1)) - log(math.pi*scale)
end
--- P(X <= x), accurate in the lower tail.
function dist.cauchy.cdf(x, loc, scale)
  return core.atan2(1, -standard("cauchy", x, loc or 0, scale or 1, "loc", "scale"))/math.pi
end

dist.gamma = {}
--- (a - 1) log t - t - log Gamma(a) - log scale of a shape a, t = x/scale >= 0; scale 1 by default.
function dist.gamma.log_prob(x, shape, scale)
  scale = scale or 1
  check("gamma", "shape", "positive", shape)
  check("gamma", "scale", "positive", scale)
  return within(core.lt(x, 0), x, 1, function(inside)
    local t = inside/scale
    return xlogy(shape - 1, t) - t - lgamma(shape) - log(scale)
  end)
end
--- P(X <= x), accurate in the lower tail.
function dist.gamma.cdf(x, shape, scale)
  scale = scale or 1
  check("gamma", "shape", "positive", shape)
  check("gamma", "scale", "positive", scale)
  return core.gammainc(shape, core.maximum(x, 0)/scale)
end

dist.beta = {}
--- (a - 1) log x + (b - 1) log(1 - x) - log B(a, b), x in [0, 1]
function dist.beta.log_prob(x, a, b)
  check("beta", "a", "positive", a)
  check("beta", "b", "positive", b)
  return within(either(core.lt(x, 0), core.gt(x, 1)), x, 0.5, function(inside)
    return xlogy(a - 1, inside) + xlog1m(b - 1, inside) - core.betaln(a, b)
  end)
end
--- P(X <= x), accurate in the lower tail.
function dist.beta.cdf(x, a, b)
  check("beta", "a", "positive", a)
  check("beta", "b", "positive", b)
  return core.betainc(a, b, core.clip(x, 0, 1))
end

dist.student_t = {}
--- Student's density's logarithm, of df degrees of freedom; loc 0 and scale 1 by default.
function dist.student_t.log_prob(x, df, loc, scale)
  loc, scale = loc or 0, scale or 1
  check("student_t", "df", "positive", df)
  local z, half = standard("student_t", x, loc, scale, "loc", "scale"), 0.5*df
  local rest = -core.betaln(0.5, half) - 0.5*log(df) - log(scale)
  return rest - (half + 0.5)*core.log1p(core.square(z)/df)
end
--- P(X <= x), accurate in both tails: P(X > x) is that of -x.
function dist.student_t.cdf(x, df, loc, scale)
  loc, scale = loc or 0, scale or 1
  check("student_t", "df", "positive", df)
  return core.stdtr(df, standard("student_t", x, loc, scale, "loc", "scale"))
end

dist.bernoulli = {}
--- log p of 1, log(1 - p) of 0
function dist.bernoulli.log_prob(k, p)
  check("bernoulli", "p", "probability", p)
  return where(core.eq(k, 1), xlogy(1, p), where(core.eq(k, 0), xlog1m(1, p), -math.huge))
end

dist.binomial = {}
--- Of k successes in n trials of probability p.
function dist.binomial.log_prob(k, n, p)
  check("binomial", "n", "count", n)
  check("binomial", "p", "probability", p)
  return within(either(broken(k), either(core.lt(k, 0), core.gt(k, n))), k, 0, function(inside)
    local fails = n - inside
    return xlogy(inside, p) + xlog1m(fails, p) - core.betaln(fails + 1, inside + 1) - log(n + 1)
  end)
end

dist.poisson = {}
--- k log lambda - lambda - log k!
function dist.poisson.log_prob(k, lambda)
  check("poisson", "lambda", "not_negative", lambda)
  return within(either(broken(k), core.lt(k, 0)), k, 0, function(inside)
    return xlogy(inside, lambda) - lambda - lgamma(inside + 1)
  end)
end

-- The option table of a function, which may have these keys.
local function options(what, names, o)
  for key in pairs(o or {}) do
    if not names[key] then core.fail(("%s has no option '%s'"):format(what, tostring(key))) end
  end
  return o or {}
end

dist.categorical = {}
--- The logarithm of the share that weight k (from 1 on) has, weights along the last axis; or of logarithms of weights: {logits = true}.
function dist.categorical.log_prob(k, weights, o)
  o = options("categorical", {logits = true}, o)
  if not core.is_tensor(weights) then weights = core.tensor(weights) end
  if not core.is_tensor(k) then k = core.tensor(k) end
  local shares = o.logits and core.log_softmax(weights) or xlogy(1, weights) - log(core.sum(weights, {axis = -1, keep = true}))
  k = core.cast(k, "i64")
  if weights.rank == 1 then return core.gather(shares, k) end
  return core.squeeze(core.take_along(shares, core.unsqueeze(k, -1)), {axis = -1})
end

dist.multivariate_normal = {}
--- Of vectors x {..., d} of a mean {d} and {covariance = C}, or its Cholesky factor, {cholesky = L}.
function dist.multivariate_normal.log_prob(x, mean, o)
  o = options("multivariate_normal", {covariance = true, cholesky = true}, o)
  if (o.covariance == nil) == (o.cholesky == nil) then core.fail "multivariate_normal: give {covariance = C} or {cholesky = L}, one of them" end
  local L = o.cholesky or core.cholesky(o.covariance)
  if not core.is_tensor(L) then L = core.tensor(L) end
  local r = (core.is_tensor(x) and x or core.tensor(x)) - (core.is_tensor(mean) and mean or core.tensor(mean))
  local d, several = r.shape[r.rank], {}
  if r.rank == 0 or L.rank ~= 2 or L.shape[1] ~= d or L.shape[2] ~= d then
    core.fail(("multivariate_normal: x - mean of shape {%s} and a matrix of shape {%s}; {..., d} and {d, d} are needed"):format(
      table.concat(r.shape, ", "), table.concat(L.shape, ", ")))
  end
  for a = 1, r.rank - 1 do several[a] = r.shape[a] end
  local z = core.triangular_solve(L, core.reshape(r, {-1, d}).T)
  local square = core.reshape(core.sum(core.square(z), {axis = 1}), several)
  return square*-0.5 - core.sum(log(core.diagonal(L))) - d*HALF_LOG_2PI
end

return dist
