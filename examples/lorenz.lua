-- The Lorenz system by RK4 in a scan: tangents along a chaotic trajectory against adjoints. In 20 units of time a disturbance of the
-- initial state grows 3,135 times (the leading exponent is 0.906), and with it whatever forward and reverse mode disagree by.
--
-- Expected: <J v, w> and <v, J' w> are 2113.987, equal to 1e-12, and the gradient with 10 checkpoints is
-- that of the stored trajectory, bit for bit.
local pl = require "perilune"

local h, steps = 0.01, 2000
local at = {y = pl.tensor{1, 1, 1}, rates = pl.tensor{10, 28, 8/3}}     -- initial state; sigma, rho, beta

local function integrate(p, options)                    -- the state after all steps
  local sigma, rho, beta = p.rates[1], p.rates[2], p.rates[3]
  local function slope(s)
    local x, y, z = s[1], s[2], s[3]
    return pl.stack{sigma*(y - x), x*(rho - z) - y, x*y - beta*z}
  end
  return pl.scan(function(s)
    local k1 = slope(s)
    local k2 = slope(s + h/2*k1)
    local k3 = slope(s + h/2*k2)
    local k4 = slope(s + h*k3)
    return s + h/6*(k1 + 2*k2 + 2*k3 + k4)
  end, p.y, steps, options)
end

local v = {y = pl.tensor{1, -1, 0.5}, rates = pl.zeros(3)}      -- a disturbance of the initial state alone
local w = pl.tensor{0.3, 1, -0.7}
local _, Jv = pl.jvp(integrate, at, v)
local _, pullback = pl.vjp(integrate, at)
local growth = (pl.norm(Jv)/pl.norm(v.y)):item()
local forward, reverse = pl.dot(Jv, w):item(), pl.dot(v, pullback(w)):item()
pl.printf("tangent grows %.0f times; <J v, w> = %.12g, <v, J' w> = %.12g, relative difference %.1e\n",
  growth, forward, reverse, math.abs(reverse/forward - 1))
local checked = pl.check_adjoint(integrate, at)         -- the same along random directions in all six numbers

local function gradient(options) return pl.grad(function(p) return pl.sum(integrate(p, options)^2) end)(at) end
local stored, recomputed = gradient(), gradient{checkpoints = 10}
local off = math.max(pl.norm(stored.y - recomputed.y, "max"):item(), pl.norm(stored.rates - recomputed.rates, "max"):item())
pl.printf("with 10 checkpoints the gradient differs by %g\n", off)
return {integrate = integrate, at = at, v = v, Jv = Jv, growth = growth, forward = forward, reverse = reverse, checked = checked,
  stored = stored, recomputed = recomputed}
