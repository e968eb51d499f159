-- -(X(x) u')' = f on (0,1), u = 0 at both ends: the function X = 1/(1 + x^2), as a network, from u at every node. The equation is
-- solved in every evaluation, so that X is the only unknown.
--
-- Expected: error of X at most 1e-3 everywhere (it is 4.0e-4).
local pl = require "perilune"
local sparse = pl.sparse

local n = 100
local h = 1/n
local node = pl.linspace(0, 1, n + 1)["2:-2"]
local mid = (pl.arange(1, n) - 0.5)*h                   -- X is needed between the nodes

local D = sparse.diags({1, -1}, {0, -1}, {n, n - 1})/h  -- nodes to midpoints, u -> u'
local f = 10*pl.exp(node)

local function solve(X) return D:gram(X(mid)):solve(f, {definite = true}) end
local function truth(x) return 1/(1 + x^2) end
local data = solve(truth)

local X = pl.nn.mlp{1, 20, 20, 20, 1, activation = "tanh", input = {0, 1}, output = "softplus", seed = 1}
local result = pl.minimize(function(p) return pl.sum((solve(p.X) - data)^2) end, {X = X}, {iterations = 1000, compile = true})

local x = pl.linspace(0, 1, 201)
local off = pl.max(pl.abs(result.x.X(x) - truth(x))):item()
print(result)
pl.printf("largest error of X on (0, 1): %.1e\n", off)
return {error = off, result = result}
