-- Hares u and lynxes v by Lotka and Volterra, u' = a u - b u v, v' = c u v - d v: the four rates from 30 yearly counts of both with
-- 5 % lognormal noise. RK4 in one scan, L-BFGS over the logarithms of the rates, standard errors by Gauss-Newton.
--
-- Expected: a = 0.5419 +- 0.0070, b = 0.0278 +- 0.0006, c = 0.0246 +- 0.0004, d = 0.8050 +- 0.0095 (truth 0.55, 0.028, 0.024, 0.8).
local pl = require "perilune"
local sparse = pl.sparse

local names, truth = {"a", "b", "c", "d"}, pl.tensor{0.55, 0.028, 0.024, 0.8}  -- 1/year; b and c for each thousand of the other
local start = pl.tensor{30, 4}                          -- thousands at year 0

-- Both populations after each year, {years, 2}, by RK4 with `substeps` steps a year.
local function populations(rates, years, substeps)
  local a, b, c, d = rates[1], rates[2], rates[3], rates[4]
  local h = 1/substeps
  local function slope(y)
    local u, v = y[1], y[2]
    return pl.stack{a*u - b*u*v, c*u*v - d*v}
  end
  local function rk4(y)
    local k1 = slope(y)
    local k2 = slope(y + h/2*k1)
    local k3 = slope(y + h/2*k2)
    local k4 = slope(y + h*k3)
    y = y + h/6*(k1 + 2*k2 + 2*k3 + k4)
    return y, y
  end
  local _, all = pl.scan(rk4, start, years*substeps)
  return all({substeps, -1, substeps}, ":")
end

local years, sigma = 30, 0.05
local data = pl.log(populations(truth, years, 20)) + sigma*pl.rng(1):normal(years, 2)
local function residual(q) return ((pl.log(populations(pl.exp(q), years, 20)) - data)/sigma):ravel() end

local fit = pl.minimize(pl.compile(function(q) return 0.5*pl.sum(residual(q)^2) end), pl.log(pl.tensor{0.5, 0.025, 0.02, 0.9}))

-- Covariance of the logarithms: the inverse of J'J.
local J = pl.jacobian(residual)(fit.x)
local i, j = pl.meshgrid(pl.arange(1, 4), pl.arange(1, 4))
local covariance = sparse.triplets(i:ravel(), j:ravel(), J.T:matmul(J):ravel(), 4, 4):solve(pl.eye(4))

pl.printf("%s after %d evaluations, chi-squared %.1f for %d data\n", fit.message, fit.evaluations, 2*fit.value, 2*years)
local value, stderr = {}, {}
for k, name in ipairs(names) do
  value[name] = math.exp(fit.x:item(k))
  stderr[name] = value[name]*math.sqrt(covariance:item(k, k))
  pl.printf("%s = %.4f +- %.4f\n", name, value[name], stderr[name])
end
return {fit = fit, value = value, stderr = stderr, truth = truth, populations = populations}
