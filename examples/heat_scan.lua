-- u_t = ((a + b x) u_x)_x + f on (0,1), u_x(0) = 0, u(1) = 0, u(x,0) = 0.  Find a and b from u(0, t) and its noise.
-- 50 nodes, 50 implicit steps with one factorization; L-BFGS on the weighted sum of squares, standard errors by Gauss-Newton.
--
-- Expected: a = 2.015 +- 0.033, b = 1.482 +- 0.046 (truth 2 and 1.5), correlation -0.998, chi-squared 37.8 (48 +- 10 on average).
local pl = require "perilune"
local sparse = pl.sparse

local n, steps = 50, 50
local h, dt = 1/n, 1/steps
local x = (pl.arange(1, n) - 1)*h                       -- x = 1 is left out: u = 0 there
local t = pl.arange(1, steps)*dt

local D = sparse.diags({-1, 1}, {0, 1}, n)/h            -- u' between the nodes
local M = sparse.diag(pl.ones(n):at(1):set(0.5))        -- half a cell at the left end: no flux through it
local source = pl.exp(-50*(x - 0.5)^2)

local function trace(p)                                 -- u(0, t)
  local A = (M + dt*D:gram(p.a + p.b*(x + h/2))):factor()     -- factored once for all steps, forward and back
  local function step(u, now)
    u = A:solve(M*(u + dt*pl.exp(-now)*source))
    return u, u[1]
  end
  local _, left = pl.scan(step, pl.zeros(n), t)
  return left
end

local sigma = 1e-4
local data = trace{a = 2, b = 1.5} + sigma*pl.rng(1):normal(steps)
local function residual(p) return (trace(p) - data)/sigma end

local fit = pl.minimize(function(p) return 0.5*pl.sum(residual(p)^2) end, {a = 1, b = 0})

-- Covariance: the inverse of J'J, 2 x 2.
local J = pl.jacobian(residual)(fit.x)
local aa, ab, bb = pl.dot(J.a, J.a):item(), pl.dot(J.a, J.b):item(), pl.dot(J.b, J.b):item()
local det = aa*bb - ab^2
local stderr = {a = math.sqrt(bb/det), b = math.sqrt(aa/det)}

pl.printf("%s\na = %.3f +- %.3f\nb = %.3f +- %.3f\n", fit.message, fit.x.a, stderr.a, fit.x.b, stderr.b)
pl.printf("correlation %.3f, chi-squared %.1f for %d data\n", -ab/math.sqrt(aa*bb), 2*fit.value, steps)
return {fit = fit, stderr = stderr, residual = residual}
