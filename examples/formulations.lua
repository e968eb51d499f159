-- One inverse problem in the four formulations that are compared: -(X(x) u')' = f on (0,1), u = 0 at both ends, X = exp(a + b x + c x^2),
-- from u at every node with 0.1 % noise. F(u, p) is the discrete equation's residual, d the data.
--
--   physics-constrained   min over p      |u(p) - d|^2, u(p) the solution of F = 0: the adjoint gives the gradient
--   residual              min over p      |F(d, p)|^2: no solves, but the data are differentiated, and must be everywhere
--   penalty               min over p, u   |u - d|^2 + weight |F(u, p)|^2: the equation holds as the weight says
--   all at once           the stationary point of |u - d|^2/2 + l'F(u, p) over p, u, l (the KKT conditions), by Newton's method
--
-- Expected: largest error of X (which is 0.6 to 1.6), and CPU seconds (of one machine):
--
--   physics-constrained   0.0006   27 evaluations       0.001 s
--   residual              1.5      35 evaluations       0.001 s   noise in u'' is 10^4 times that in u
--   penalty, weight 0.01  0.043    5,000 evaluations    0.3 s
--   penalty, weight 1     0.0023   12,000 evaluations   0.6 s     the better the equation holds, the longer it takes
--   all at once           0.0006   8 Newton steps       0.008 s   the same minimum, and l, the sensitivity to the source
local pl = require "perilune"
local sparse = pl.sparse

local n = 100
local h = 1/n
local node = pl.linspace(0, 1, n + 1)["2:-2"]
local mid = (pl.arange(1, n) - 0.5)*h
local D = sparse.diags({1, -1}, {0, -1}, {n, n - 1})/h  -- nodes to midpoints, u -> u'
local f = 10*pl.exp(node)

local function coefficient(p, x) return pl.exp(p[1] + p[2]*x + p[3]*x^2) end
local function residual(u, p) return D.T*(coefficient(p, mid)*(D*u)) - f end
local function solve(p) return D:gram(coefficient(p, mid)):solve(f, {definite = true}) end

local truth = pl.tensor{0.5, -2, 1}
local clean = solve(truth)
local sigma = 1e-3*pl.max(clean):item()
local data = clean + sigma*pl.rng(1):normal(n - 1)
local guess = pl.zeros(3)

local ways = {}

function ways.physics_constrained()
  local r = pl.minimize(function(p) return pl.sum(((solve(p) - data)/sigma)^2) end, guess, {compile = true})
  return r.x, r.evaluations
end

function ways.residual()
  local r = pl.minimize(function(p) return pl.sum(residual(data, p)^2) end, guess, {compile = true})
  return r.x, r.evaluations
end

local function penalty(weight)
  local function loss(z) return pl.sum(((z.u - data)/sigma)^2) + weight*pl.sum(residual(z.u, z.p)^2) end
  local r = pl.minimize(loss, {p = guess, u = data}, {compile = true, iterations = 30000, rtol = 1e-13})
  return r.x.p, r.evaluations
end
function ways.penalty_small() return penalty(0.01) end
function ways.penalty_large() return penalty(1) end

function ways.all_at_once()
  local stationary = pl.grad(function(z) return 0.5*pl.sum(((z.u - data)/sigma)^2) + pl.dot(z.l, residual(z.u, z.p)) end)
  local start = {p = guess, u = data, l = pl.zeros(n - 1)}
  local z, report = pl.newton(stationary, start)
  return z.p, report.iterations
end

local x, results = pl.linspace(0, 1, 201), {}
for _, name in ipairs{"physics_constrained", "residual", "penalty_small", "penalty_large", "all_at_once"} do
  local start = os.clock()
  local p, count = ways[name]()
  local seconds = os.clock() - start
  local off = pl.max(pl.abs(coefficient(p, x) - coefficient(truth, x))):item()
  pl.printf("%-20s largest error of X %.4f, %5d evaluations, %.3f s\n", name, off, count, seconds)
  results[name] = {p = p, error = off, evaluations = count}
end
return results
