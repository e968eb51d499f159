-- -b u'' + u = 8 + 4x - 4x^2 on (0,1), u(0) = u(1) = 0.  Find b from u(1/2) = 1.   Expected: b = 1 to 1e-9.
local pl = require "perilune"
local sparse = pl.sparse

local n = 101
local h = 1/(n - 1)
local x = pl.linspace(0, 1, n)["2:-2"]                  -- the interior nodes
local D2 = sparse.diags({1, -2, 1}, {-1, 0, 1}, n - 2)/h^2
local I = sparse.eye(n - 2)
local f = 8 + 4*x - 4*x^2
local middle = (n - 1)/2                                -- the interior node at x = 1/2

local function loss(p)
  local u = (I - p.b*D2):solve(f)
  return (u[middle] - 1)^2, u                           -- what follows the loss comes back in result.aux
end

pl.check_grad(loss, {b = 3.0})                          -- Taylor rates; an error if they are not 2 (and 3 with the Hessian)

local result = pl.minimize(loss, {b = 10.0}, {bounds = {b = {0.1, 100}}})
print(result)
pl.printf("b = %.10f\n", result.x.b)                    -- a number went in, a number comes out
