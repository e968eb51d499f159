-- Sparse matrices: `perilune bench/sparse.lua THREADS` prints lines of name, least seconds, a number that sparse.py's must agree with, and
-- the ratio to the peer that is aimed at with so many threads (- where none is). Both make their inputs by the same formulas.
local pl = require "perilune"
local sparse = pl.sparse
local now = dofile "bench/clock.lua"

local threads = tonumber(arg and arg[1]) or 1
pl.default{threads = threads}

local function hashed(n, scale) -- in (0, 1), without order
  local k = pl.arange(1, n)*scale
  return k - pl.floor(k)
end

local n = 1000
local D = sparse.diags({1, -1}, {0, -1}, {n + 1, n})
local G = sparse.concat{sparse.kron(D, sparse.eye(n)), sparse.kron(sparse.eye(n), D)}
local k = 1 + hashed(2*n*(n + 1), 0.6180339887498949)
local A = G:gram(k) -- the 5-point Laplacian, a coefficient for each edge
local x = hashed(n*n, 0.41421356237309515)
local diagonal, X, q = sparse.diag(x), x:reshape(n*n/4, 4), hashed(2*n*(n + 1), 0.7320508075688772)
local W = sparse.diags({x("1:250000"), 1, -1, 0.5}, {0, -500, 1, 500}, 250000)

-- name, function, target with one and with two threads
local rows = {
  {"spmv", function() return A*x end, "1.15", "1.6"},
  {"spmv_transposed", function() return G.T*q end},
  {"spmm", function() return W*X end},
  {"sum", function() return A + diagonal end},
  {"assembly", function() return G:gram(k) end},
  {"product", function() return W*W end},
}

for _, row in ipairs(rows) do
  local f = row[2]
  local y = f()
  local best, count, stop = math.huge, 0, now() + 0.5
  repeat
    local t = now()
    f()
    best = math.min(best, now() - t)
    count = count + 1
    if count % 5 == 0 then collectgarbage() end
  until count >= 3 and now() > stop
  print(("%s %.17g %.17g %s"):format(row[1], best, y:sum():item(), row[threads + 2] or "-"))
end
