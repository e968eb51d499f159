-- The 5-point Laplacian with a coefficient for each edge on 300 x 300 nodes: one forward solve (assembly, factorization, solve;
-- the pattern analysed before), and the loss with its gradient in all edges. Prints "forward gradient derivative solve", the times in
-- seconds (medians of interleaved runs) and a directional derivative's relative error against central differences; then the least
-- time of factorization and solve alone, which bench/cholmod.c takes in C.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse
local now = dofile "bench/clock.lua"

local n = tonumber(arg and arg[1]) or 300
local D = sparse.diags({1, -1}, {0, -1}, {n + 1, n})
local G = sparse.kron(D, sparse.eye(n))
local H = sparse.kron(sparse.eye(n), D)
local f = pl.ones(n*n)/(n + 1)^2
local rng = pl.rng(1)
local k = {x = 1 + rng:uniform((n + 1)*n), y = 1 + rng:uniform((n + 1)*n)}

local function loss(p)
  local A = G:gram(p.x) + H:gram(p.y)
  return pl.sum(A:solve(f, {definite = true})^2)
end

local both = pl.value_and_grad(loss)
local _, g = both(k) -- analyses the pattern
local forward, gradient = {}, {}
for r = 1, tonumber(arg and arg[2]) or 15 do
  local t0 = now()
  core.pause(loss, k)
  local t1 = now()
  both(k)
  local t2 = now()
  forward[r], gradient[r] = t1 - t0, t2 - t1
end
table.sort(forward)
table.sort(gradient)
local v = {x = rng:normal((n + 1)*n), y = rng:normal((n + 1)*n)}
local h = 1e-4
local slope = pl.dot(g, v):item()
local difference = (loss{x = k.x + h*v.x, y = k.y + h*v.y}:item() - loss{x = k.x - h*v.x, y = k.y - h*v.y}:item())/(2*h)
local middle = math.ceil(#forward/2)
local A, least = G:gram(k.x) + H:gram(k.y), math.huge
for _ = 1, #forward do
  local t0 = now()
  A:solve(f, {definite = true})
  least = math.min(least, now() - t0)
end
print(("%.6f %.6f %.2e %.6f"):format(forward[middle], gradient[middle], math.abs(slope/difference - 1), least))
