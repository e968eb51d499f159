-- One op of each family at 10^3 and 10^6 numbers (matrices of 32 and 1,000 rows): `perilune bench/families.lua` prints lines of size, name,
-- least seconds, and a number that families.py's must agree with. Both make their inputs by the same formulas.
local pl = require "perilune"
local now = dofile "bench/clock.lua"

local function hashed(n, scale) -- in (0, 1), without order
  local k = pl.arange(1, n)*scale
  return k - pl.floor(k)
end

for _, n in ipairs{1000, 1000000} do
  local m = n == 1000 and 32 or 1000
  local x, A = hashed(n, 0.6180339887498949), hashed(m*m, 0.41421356237309515):reshape(m, m) + m*pl.eye(m)
  local S, rows = pl.matmul(A, A:transpose()), x:reshape(n/100, 100)
  local places = pl.floor(hashed(n, 0.7320508075688772)*n):to("i64") + 1
  local T = hashed(m*m, 0.2360679774997898):reshape(m/4, m/4, 16)
  local b = x(m == 32 and "1:32" or "1:1000")
  local rng = pl.rng(1)
  -- one matrix of 100 rows, or a thousand of 8
  local M = n == 1000 and hashed(10000, 0.2360679774997898):reshape(100, 100) or hashed(64000, 0.2360679774997898):reshape(1000, 8, 8)
  M = M - 0.5 + 2*pl.eye(M.shape[2])
  local V, u, v, knots = hashed(m*m, 0.2360679774997898):reshape(m, m), x*(m - 1) + 1, hashed(n, 0.7320508075688772)*(m - 1) + 1, pl.linspace(0, 1, m)
  local function bent(p) return pl.sum(pl.bilinear(p.u, p.v, p.V)) end
  local pairs_ = hashed(2*n, 0.6457513110645906) -- complex numbers
  local lines, line, plane = pairs_:reshape(n/1000, 1000, 2), pairs_:reshape(n, 2), x:reshape(m == 32 and 25 or 1000, m == 32 and 40 or 1000)
  local rest = {
    {"erf", function() return pl.erf(x) end}, {"gelu", function() return pl.gelu(x) end}, {"lgamma", function() return pl.lgamma(x) end},
    {"sum", function() return pl.sum(rows, 2) end}, {"argmax", function() return pl.argmax(rows, 2) end},
    {"softmax", function() return pl.softmax(rows) end}, {"sort", function() return pl.sort(x) end},
    {"roll", function() return pl.roll(x, 5) end}, {"take", function() return pl.take(x, places) end},
    {"einsum", function() return pl.einsum("ijb,jkb->ikb", T, T) end}, {"solve", function() return pl.solve(A, b) end},
    {"cholesky", function() return pl.cholesky(S) end},
    {"uniform", function() return rng:uniform(n) end}, {"normal", function() return rng:normal(n) end},
    {"gamma", function() return rng:gamma(2.5, n) end}, {"poisson", function() return rng:poisson(3, n) end},
    {"cholesky", function() return pl.cholesky(S) end}, {"qr", function() local _, R = pl.qr(M); return R end},
    {"lu", function() local _, _, U = pl.lu(M); return U end}, {"svd", function() local _, s = pl.svd(M); return s end},
    {"svdvals", function() return pl.svdvals(M) end}, {"eigvals", function() return pl.eigvals(M) end},
    {"pinv", function() return pl.pinv(M) end}, {"lstsq", function() return pl.lstsq(M, M) end}, {"expm", function() return pl.expm(M) end},
    {"tridiagonal_solve", function() return pl.tridiagonal_solve(x, x + 2, x, x) end},
    {"bilinear", function() return pl.bilinear(u, v, V) end}, {"bilinear_gradient", function() return pl.grad(bent)({u = u, v = v, V = V}).u end},
    {"cubic_spline", function() return pl.cubic_spline(x, knots, pl.sin(7*knots)) end},
    {"fft", function() return pl.fft(lines) end}, {"fft_long", function() return pl.fft(line) end},
    {"rfft2", function() return pl.rfft2(plane) end}, {"dct", function() return pl.dct(plane) end},
  }
  for _, item in ipairs(rest) do
    local name, f = item[1], item[2]
    local y = f()
    local best, count, stop = math.huge, 0, now() + 0.2
    repeat
      local t = now()
      f()
      best = math.min(best, now() - t)
      count = count + 1
      if count % 10 == 0 then collectgarbage() end
    until count >= 3 and now() > stop
    local total = pl.sum(name == "normal" and y^2 or y*1.0):item() -- of random numbers, which agree by their law
    print(("%d %s %.17g %.17g"):format(n, name, best, total))
    print(("%d %s %.17g %.17g"):format(n, name, best, pl.sum(name == "qr" and pl.abs(y) or y*1.0):item()))
  end
end
