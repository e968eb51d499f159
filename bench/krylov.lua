-- The 5-point Laplacian on n x n nodes by conjugate gradients with multigrid, to a relative residual of 1e-8: the set-up alone, the
-- solve (with it), and the loss with its gradient in the right-hand side and the matrix's values. Prints a line for each n: n, iterations,
-- then least times in seconds.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse
local now = dofile "bench/clock.lua"

local function laplace(n)
  local D = sparse.diags({2, -1, -1}, {0, 1, -1}, n)
  return sparse.kron(D, sparse.eye(n)) + sparse.kron(sparse.eye(n), D)
end

for _, n in ipairs{250, tonumber(arg and arg[1]) or 1000} do
  local A = laplace(n)
  local k = {values = A.values, b = pl.rng(1):normal(n*n)}
  local iterations
  local function loss(p)
    local x, report = sparse.with_values(A, p.values):solve(p.b, {method = "cg", precondition = "multigrid", rtol = 1e-8})
    iterations = report.iterations
    return pl.sum(x^2)
  end
  local both = pl.value_and_grad(loss)
  local best = {math.huge, math.huge, math.huge}
  local function time(i, f, ...)
    collectgarbage()
    local t = now()
    f(...)
    best[i] = math.min(best[i], now() - t)
  end
  for _ = 1, tonumber(arg and arg[2]) or 3 do
    time(1, A.preconditioner, A, "multigrid")
    time(2, core.pause, loss, k)
    time(3, both, k)
  end
  print(("%d: %d iterations, set-up %.3f, solve %.3f, with gradient %.3f (%.2f times)"):format(n, iterations, best[1], best[2], best[3], best[3]/best[2]))
end
