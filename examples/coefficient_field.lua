-- -div(k grad u) = 1 on the unit square, u = 0 on its edge: the field k, one value a cell, from u at every inner node with 1 %
-- noise and a smoothness penalty. 48 x 48 inner nodes, 49 x 49 cells.
--
-- Expected: relative error of k below 0.1.
local pl = require "perilune"
local sparse = pl.sparse

local n = 49                                            -- cells a side; nodes 1 .. n-1 are inside
local h = 1/n
local mid = (pl.arange(1, n) - 0.5)*h

-- Fluxes live on the edges between nodes; an edge's coefficient is the mean of the two cells beside it.
local D = sparse.diags({1, -1}, {0, -1}, {n, n - 1})/h  -- nodes to edges
local I = sparse.eye(n - 1)
local Gx, Gy = sparse.kron(D, I), sparse.kron(I, D)
local mean = sparse.diags({0.5, 0.5}, {0, 1}, {n - 1, n})
local Ex, Ey = sparse.kron(sparse.eye(n), mean), sparse.kron(mean, sparse.eye(n))
local f = pl.ones((n - 1)^2)

local function solve(k)                                 -- k {n*n} -> u {(n-1)*(n-1)}
  local A = Gx:gram(Ex*k) + Gy:gram(Ey*k)
  return A:solve(f, {definite = true})
end

local X, Y = pl.meshgrid(mid, mid)
local truth = (1 + 2*pl.exp(-20*((X - 0.35)^2 + (Y - 0.6)^2)) - 0.5*pl.exp(-30*((X - 0.7)^2 + (Y - 0.3)^2))):ravel()
local clean = solve(truth)
local sigma = 0.01*pl.norm(clean):item()/math.sqrt(clean.count)
local data = clean + sigma*pl.rng(1):normal(clean.count)

-- Differences of log k between neighbouring cells.
local step = sparse.diags({-1, 1}, {0, 1}, {n - 1, n})
local Sx, Sy = sparse.kron(step, sparse.eye(n)), sparse.kron(sparse.eye(n), step)

local function loss(p)                                  -- p.m = log k
  local u = solve(pl.exp(p.m))
  local rough = pl.sum((Sx*p.m)^2) + pl.sum((Sy*p.m)^2)
  return 0.5*pl.sum(((u - data)/sigma)^2) + 0.5*60*rough
end

local result = pl.minimize(loss, {m = pl.zeros(n*n)}, {iterations = 200, rtol = 1e-6})
local k = pl.exp(result.x.m)
local off = (pl.norm(k - truth)/pl.norm(truth)):item()
pl.printf("%s\nrelative error of k: %.3f\n", result.message, off)
return {error = off, result = result}
