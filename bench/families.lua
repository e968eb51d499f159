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
  local pairs_ = hashed(2*n, 0.6457513110645906) -- complex numbers
  local lines, line, plane = pairs_:reshape(n/1000, 1000, 2), pairs_:reshape(n, 2), x:reshape(m == 32 and 25 or 1000, m == 32 and 40 or 1000)
  local rest = {
    {"erf", function() return pl.erf(x) end}, {"gelu", function() return pl.gelu(x) end}, {"lgamma", function() return pl.lgamma(x) end},
    {"sum", function() return pl.sum(rows, 2) end}, {"argmax", function() return pl.argmax(rows, 2) end},
    {"softmax", function() return pl.softmax(rows) end}, {"sort", function() return pl.sort(x) end},
    {"roll", function() return pl.roll(x, 5) end}, {"take", function() return pl.take(x, places) end},
    {"einsum", function() return pl.einsum("ijb,jkb->ikb", T, T) end}, {"solve", function() return pl.solve(A, b) end},
    {"cholesky", function() return pl.cholesky(S) end},
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
    print(("%d %s %.17g %.17g"):format(n, name, best, pl.sum(y*1.0):item()))
  end
end
