-- Newton's method on -(X(u) u')' = f with X = 1 + u^2 and 10^5 unknowns, and 10^6 scalar equations at once; bench/nonlinear.py does
-- the same with SciPy (`perilune bench/nonlinear.lua`). Each row is the least of a few runs, in milliseconds.
local pl = require "perilune"
local core = require "perilune.core"
local control = require "perilune.control"
local program = core.program
local clock = dofile "bench/clock.lua"

local function least(f, runs)
  local best = math.huge
  for _ = 1, runs or 5 do
    local start = clock()
    f()
    best = math.min(best, clock() - start)
  end
  return best*1e3
end
local function row(name, ms) print(("%-42s %10.3f"):format(name, ms)) end

local n = 100000
local h = 1/(n + 1)
local x = pl.linspace(0, 1, n + 2)["2:-2"]
local f = 10*pl.sin(3*x)*h^2
local function residual(u)
  local v = pl.pad(u, 1)
  local m = (v["2:"] + v[":-2"])/2
  return -pl.diff((1 + m^2)*pl.diff(v)) - f
end

local u = 0.1*pl.sin(math.pi*x)
local body, captured, _, t = control.trace({u}, 1, residual, function(inputs) return inputs[1] end, function(out) return {out[2]}, {} end)
local inputs = control.append({u}, captured)
local jacobian = program.newton_jacobian(body, inputs)
local one = least(function() program.call(body, inputs, false) end, 200)
local all = least(function() program.call(jacobian, inputs, false) end, 200)
row("residual, 1e5 unknowns", one)
row("coloured Jacobian", all)
print(("%-42s %10.2f"):format("Jacobian / residual", all/one))
t:free()
row("newton, 1e5 unknowns", least(function() pl.newton(residual, pl.zeros(n), {rtol = 1e-8}) end))

local y = pl.linspace(-10, 10, 1000000)
row("root of y^3 + y = x, 1e6", least(function() pl.root(function(s) return s^3 + s - y end, {-3, 3}) end))
