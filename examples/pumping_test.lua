-- Pumping test at Oude Korendijk: hydraulic conductivity k and specific storage Ss of a confined aquifer, 7 m thick, from the
-- drawdown s in two piezometers, 30 m and 90 m from a well pumped at 788 m3/d (data/oude_korendijk/README.md).
--
--   S ds/dt = (1/r) d/dr (r T ds/dr),  2 pi r T ds/dr = -Q at the well,  s = 0 far away,  T = 7 k, S = 7 Ss
--
-- Finite volumes in x = log r (vertex-centred, so that both piezometers are nodes), second order; in time TR-BDF2 (Bank et al.
-- 1985), second order and L-stable, whose two stages share one matrix, on steps that grow geometrically. The gradient runs back
-- through the sparse solves of every step.
--
-- Expected: k = 66.09 m/d, Ss = 2.54e-5 1/m, RMSE = 0.0501 m (AQTESOLV, TTim: 66.09, 2.541e-5, 0.05006).
local pl = require "perilune"
local sparse = pl.sparse

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or ""
local Q, thickness = 788, 7                             -- m3/d, m
local minute = 1/1440                                   -- of a day

-- The model for `cells` intervals of log r between the piezometers, `steps` time steps a decade from the time `first`, in days.
local function model(cells, steps, first, last)
  local h = math.log(3)/cells
  local near, far = math.ceil(6.4/h), math.ceil(6.5/h)  -- from 5 cm to 20 km
  local n = near + far                                  -- nodes; the one after the last is at s = 0
  local x = math.log(30) + (pl.arange(0, n - 1) - near)*h
  local r = pl.exp(x)
  local area = (2*math.pi*h*r^2):at(1):set(math.pi*h*r:item(1)^2)   -- of a node's ring; half a one at the well
  local G = sparse.diags({-1, 1}, {0, 1}, n)            -- differences of neighbours
  local well = pl.zeros(n):at(1):set(Q)
  local growth = 10^(1/steps)
  local times = {0, first}
  while times[#times] < last*growth do times[#times + 1] = times[#times]*growth end
  local gamma = 2 - math.sqrt(2)
  local seen = pl.tensor({near + 1, near + cells + 1}, {dtype = "i64"})

  -- Drawdown at 30 m and 90 m at every time but the first: {#times - 1, 2}.
  local function drawdown(k, Ss)
    local M = sparse.diag(Ss*thickness*area)
    local K = G:gram(2*math.pi*thickness/h*k)
    local s, series = pl.zeros(n), {}
    for i = 2, #times do
      local dt = times[i] - times[i - 1]
      local A = (M + K*(gamma/2*dt)):factor()
      local middle = A:solve(M*s + dt*(gamma*well - (gamma/2)*(K*s)))
      s = A:solve(M*((middle - (1 - gamma)^2*s)/(gamma*(2 - gamma))) + (gamma/2*dt)*well)
      series[i - 1] = pl.gather(s, seen)
    end
    return pl.stack(series)
  end

  -- The rows that interpolate a series to the times t (days): cubic in log t.
  local function at(t)
    local i, j, v = {}, {}, {}
    for row, time in ipairs(t) do
      local m = 2
      while m < #times - 3 and times[m + 2] < time do m = m + 1 end
      for a = m, m + 3 do
        local weight = 1
        for b = m, m + 3 do
          if b ~= a then weight = weight*math.log(time/times[b])/math.log(times[a]/times[b]) end
        end
        i[#i + 1], j[#j + 1], v[#v + 1] = row, a - 1, weight
      end
    end
    return sparse.triplets(i, j, pl.tensor(v), #t, #times - 1)
  end
  return {drawdown = drawdown, at = at, times = times}
end

local data = {}
for well, name in ipairs{"h30", "h90"} do
  local columns = pl.io.load(here .. "data/oude_korendijk/" .. name .. ".csv")
  data[well] = {t = (columns.time_min*minute):totable(), s = columns.drawdown_m}
end

local base = model(20, 16, 2e-3*minute, 850*minute)
local to = {base.at(data[1].t), base.at(data[2].t)}
local observed = pl.concat{data[1].s, data[2].s}

-- Both unknowns are positive and of very different size: their logarithms are fitted.
local function residual(p)
  local series = base.drawdown(pl.exp(p.k), pl.exp(p.Ss))
  return pl.concat{to[1]*series(":", 1), to[2]*series(":", 2)} - observed
end

local result = pl.minimize(function(p) return pl.mean(residual(p)^2) end, {k = math.log(10), Ss = math.log(1e-4)}, {atol = 1e-9})

-- 95 % intervals: Gauss-Newton, from the residual's derivatives along both unknowns.
local r, rk = pl.jvp(residual, result.x, {k = 1, Ss = 0})
local _, rs = pl.jvp(residual, result.x, {k = 0, Ss = 1})
local a, b, c = pl.dot(rk, rk):item(), pl.dot(rk, rs):item(), pl.dot(rs, rs):item()
local count = #observed
local variance = pl.dot(r, r):item()/(count - 2)
local t95 = 1.996                                       -- Student's t, 67 degrees of freedom
local rmse = math.sqrt(pl.mean(r^2):item())
local k, Ss = math.exp(result.x.k), math.exp(result.x.Ss)
local dk, ds = t95*math.sqrt(variance*c/(a*c - b*b)), t95*math.sqrt(variance*a/(a*c - b*b))
local de = t95*rmse/math.sqrt(2*count)                  -- of the RMSE itself

pl.printf("k = %.2f m/d (95 %%: %.1f to %.1f)\n", k, k*(1 - dk), k*(1 + dk))
pl.printf("Ss = %.3e 1/m (95 %%: %.2e to %.2e)\n", Ss, Ss*(1 - ds), Ss*(1 + ds))
pl.printf("RMSE = %.4f m (95 %%: %.4f to %.4f)\n", rmse, rmse - de, rmse + de)

return {model = model, k = k, Ss = Ss, rmse = rmse, result = result}
