-- u_t = div(k grad u) on the unit square, u on the edge as at the start: the field k, one value a node, from ten snapshots of u with
-- 1 % noise and a smoothness penalty. 64 x 64 nodes, 1,000 explicit steps in a compiled loss.
--
-- Expected: relative error of k 0.023 after 40 iterations (0.187 at k = 1, where they begin).
local pl = require "perilune"

local n, steps, shots = 64, 1000, 10
local h = 1/(n - 1)
local x = pl.linspace(0, 1, n)
local X, Y = pl.meshgrid(x, x)

local function bump(a, b) return pl.exp(-35*((X - a)^2 + (Y - b)^2)) end
local truth = 1 + 0.8*bump(0.3, 0.65) - 0.5*bump(0.7, 0.35)
local dt = 0.2*h^2/1.8                                  -- stable for k up to 2.25

-- Hot and cold spots, so that heat flows in both directions nearly everywhere at one time or another.
local start = pl.cos(3*math.pi*X)*pl.cos(3*math.pi*Y)

local function snapshots(k)                             -- {shots, n, n}
  local kx, ky = (k("2:", "2:-2") + k(":-2", "2:-2"))/2, (k("2:-2", "2:") + k("2:-2", ":-2"))/2    -- between neighbours
  local function step(u)
    local qx, qy = kx*pl.diff(u(":", "2:-2"), {axis = 1}), ky*pl.diff(u("2:-2", ":"), {axis = 2})
    return u + pl.pad(dt/h^2*(pl.diff(qx, {axis = 1}) + pl.diff(qy, {axis = 2})), 1)
  end
  local _, seen = pl.scan(function(u)
    u = pl.scan(step, u, steps/shots)
    return u, u
  end, start, shots)
  return seen
end

local sigma = 0.01                                      -- u lies between -1 and 1
local data = snapshots(truth) + sigma*pl.rng(1):normal(shots, n, n)

local loss = pl.compile(function(p)                     -- p.m = log k
  local rough = pl.sum(pl.diff(p.m, {axis = 1})^2) + pl.sum(pl.diff(p.m, {axis = 2})^2)
  return 0.5*pl.sum(((snapshots(pl.exp(p.m)) - data)/sigma)^2) + 0.5*100*rough
end)

local result = pl.minimize(loss, {m = pl.zeros(n, n)}, {iterations = 40, rtol = 1e-6})
local k = pl.exp(result.x.m)
local off = (pl.norm(k - truth)/pl.norm(truth)):item()
pl.printf("%s\n%d evaluations of 1,000 steps with their gradient; relative error of k: %.3f\n", result.message, result.evaluations, off)
return {error = off, result = result, truth = truth, snapshots = snapshots}
