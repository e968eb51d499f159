-- A chain of 200 equal masses between two walls, its springs the same from either end. Find their stiffnesses from the ten lowest
-- frequencies, known to 0.01 % (one spectrum determines a symmetric chain): the logarithm of stiffness is a sum of eight cosines.
-- Each evaluation takes ten eigenvalues of a sparse matrix (shift-invert Lanczos) and their derivatives, v'(dA)v.
--
-- Expected: stiffnesses within 1 % (they vary by a factor of 2.1), frequencies within 0.05 %.
local pl = require "perilune"
local sparse = pl.sparse

local n, modes, terms = 200, 10, 8
local x = (pl.arange(1, n + 1) - 0.5)/(n + 1)
local D = sparse.diags({1, -1}, {0, -1}, {n + 1, n})      -- how far each spring is stretched
local order = pl.arange(0, terms - 1)
local shapes = pl.cos(2*math.pi*order*x:reshape(n + 1, 1))

local function frequencies(s) return pl.sqrt((D:gram(s):eigsh(modes))) end

local truth = pl.exp(0.3*pl.cos(2*math.pi*x) + 0.4*pl.exp(-60*(pl.abs(x - 0.5) - 0.25)^2))
local sigma = 1e-4
local data = frequencies(truth)*(1 + sigma*pl.rng(1):normal(modes))

local function stiffness(p) return pl.exp(shapes:matmul(p.c)) end
local function loss(p)
  local misfit = (frequencies(stiffness(p))/data - 1)/sigma
  return 0.5*pl.sum(misfit^2) + 0.5*pl.sum((order*p.c)^2)
end

local fit = pl.minimize(loss, {c = pl.zeros(terms)}, {iterations = 500, rtol = 1e-10})
local found = stiffness(fit.x)
local off = pl.max(pl.abs(found/truth - 1)):item()
local apart = pl.max(pl.abs(frequencies(found)/frequencies(truth) - 1)):item()
pl.printf("%s\nstiffnesses within %.1f %%, frequencies within %.3f %%\n", fit.message, 100*off, 100*apart)
return {error = off, misfit = apart, spread = (pl.max(truth)/pl.min(truth)):item(), fit = fit}
