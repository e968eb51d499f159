-- y(x) from y^3 + y = x for a million x, each equation by itself; its slope by the implicit function theorem, 1/(3 y^2 + 1); and
-- a coefficient found from y: c in y^3 + c y = x.
--
-- Expected: errors of y and dy/dx below 1e-14 (y by Cardano's formula, 2/sqrt(3) sinh(asinh(3 sqrt(3) x/2)/3)), and c = 1 to 1e-8.
local pl = require "perilune"

local x = pl.linspace(-10, 10, 1000000)
local function cubic(at, c)
  return (pl.root(function(y) return y^3 + c*y - at end, {-4, 4}))
end

local y = cubic(x, 1)
local slope = pl.grad(function(at) return pl.sum(cubic(at, 1)) end)(x)

local exact = 2/math.sqrt(3)*pl.sinh(pl.asinh(1.5*math.sqrt(3)*x)/3)
local error = pl.max(pl.abs(y - exact)):item()
local slope_error = pl.max(pl.abs(slope - 1/(3*exact^2 + 1))):item()
pl.printf("y is off by %.1e, dy/dx by %.1e\n", error, slope_error)

local few = x("1:-1:1000")
local data = cubic(few, 1)
local result = pl.minimize(function(p) return pl.sum((cubic(few, pl.exp(p.c)) - data)^2) end, {c = math.log(3)})
local c = math.exp(result.x.c)
pl.printf("c = %.10f\n", c)
return {error = error, slope_error = slope_error, c = c}
