-- -div(k grad u) = 1 on the unit square, u = 0 on its edge. k(x, y) > 0 is a network; u is seen at 49 sensors with 1 % noise. Adam
-- finds the way, L-BFGS goes it; the discrepancy principle stops before the noise is fitted.
--
-- Expected: relative error of k below 0.05 (it is 0.032 after 792 iterations).
local pl = require "perilune"
local sparse = pl.sparse

local n = 64                                            -- cells a side; nodes 1 .. n-1 are inside
local h = 1/n
local node = pl.linspace(0, 1, n + 1)["2:-2"]
local edge = (pl.arange(1, n) - 0.5)*h

-- D: nodes to edges, u -> u'.  The fluxes live where the derivatives live.
local D = sparse.diags({1, -1}, {0, -1}, {n, n - 1})/h
local I = sparse.eye(n - 1)
local Gx, Gy = sparse.kron(D, I), sparse.kron(I, D)
local function points(x, y) local X, Y = pl.meshgrid(x, y); return X:ravel(), Y:ravel() end
local xe, ye = points(edge, node)
local xn, yn = points(node, edge)
local f = pl.ones((n - 1)^2)

local function forward(k)                               -- k is any function of x and y: a formula or a network
  local A = Gx:gram(k(xe, ye)) + Gy:gram(k(xn, yn))     -- G' diag(k) G
  return A:solve(f, {definite = true}):reshape(n - 1, n - 1)
end

local function truth(x, y) return 1 + 2*pl.exp(-8*((x - 0.35)^2 + (y - 0.6)^2)) end
local at = {8, 56, 8}                                   -- first, last, step
local clean = forward(truth)(at, at)
local sigma = 0.01*clean:std()
local data = clean + sigma*pl.rng(7):normal(7, 7)

local k = pl.nn.mlp{2, 20, 20, 1, activation = "tanh", output = "softplus", seed = 1}
local result = pl.minimize(function(p)
  local u = forward(p.k)
  return pl.mean(((u(at, at) - data)/sigma)^2)
end, {k = k}, {
  method = {{"adam", iterations = 300, rate = 5e-3}, {"lbfgs", iterations = 1000}},
  stop = function(it) return it.value < 1.5 end,        -- the discrepancy principle
})

local X, Y = pl.meshgrid(node, node)
local off = (pl.norm(result.x.k(X, Y) - truth(X, Y))/pl.norm(truth(X, Y))):item()
pl.printf("%s; relative error of k %.3f\n", result.message, off)
return {error = off, result = result}
