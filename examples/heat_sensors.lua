-- u_t = (kappa(x) u_x)_x + f on (0,1), u_x(0) = 0, u(1) = 0, u(x,0) = 0: the conductivity kappa = 2 + 1.5 x, as a network, from 25
-- sensors, every second node, read after each of 50 implicit steps, with 1 % and with 10 % noise (of the readings' rms). The fit
-- ends when an iteration lowers the misfit by less than 1e-4 of it: what would follow fits the noise.
--
-- Expected: largest relative error of kappa on (0,1): 0.010 with 1 % noise, 0.075 with 10 % (other noise: up to 0.05 and 0.08). The
-- misfit, in units of the noise, ends at 0.97 with both, as that of the truth.
local pl = require "perilune"
local sparse = pl.sparse

local n, steps = 50, 50
local h, dt = 1/n, 1/steps
local x = (pl.arange(1, n) - 1)*h                       -- x = 1 is left out: u = 0 there
local t = pl.arange(1, steps)*dt
local seen = {1, n - 1, 2}                              -- first, last, step

local D = sparse.diags({-1, 1}, {0, 1}, n)/h            -- u' between the nodes
local M = sparse.diag(pl.ones(n):at(1):set(0.5))        -- half a cell at the left end: no flux through it
local source = 10*pl.exp(-50*(x - 0.5)^2)

local function readings(kappa)                          -- {steps, 25}
  local A = (M + dt*D:gram(kappa(x + h/2))):factor({definite = true}) -- once for all steps, forward and back
  local function step(u, now)
    u = A:solve(M*(u + dt*pl.exp(-now)*source))
    return u, u(seen)
  end
  local _, all = pl.scan(step, pl.zeros(n), t)
  return all
end

local function truth(at) return 2 + 1.5*at end
local clean = readings(truth)
local places = pl.linspace(0, 1, 101)

local function fit(level)
  local sigma = level*pl.norm(clean)/math.sqrt(clean.count)
  local data = clean + sigma*pl.rng(1):normal(clean.shape)
  local kappa = pl.nn.mlp{1, 20, 20, 20, 1, activation = "tanh", input = {0, 1}, output = "softplus", seed = 1}
  local result = pl.minimize(function(p) return pl.mean(((readings(p.kappa) - data)/sigma)^2) end, {kappa = kappa},
    {rtol = 1e-4, compile = true})
  local off = pl.max(pl.abs(result.x.kappa(places)/truth(places) - 1)):item()
  pl.printf("%g %% noise: %s after %d iterations, misfit %.3f; largest relative error of kappa %.3f\n",
    100*level, result.message, result.iterations, result.value, off)
  return {error = off, result = result}
end

return {fit(0.01), fit(0.1)}
