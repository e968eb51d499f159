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
  local B, D = x:reshape(n/100, 10, 10), hashed(100, 0.4142135623730949):reshape(10, 10)
  local second = hashed(n, 0.7320508075688772)
  local near, mask, sorted, bins = 1 + (x - 0.5)/n, x:gt(0.5), pl.sort(x), pl.floor(x*100):to("i64") + 1
  local sizes = n == 1000 and {1, 4, 16, 16} or {32, 32, 32, 32}
  local images = hashed(sizes[1]*sizes[2]*sizes[3]*sizes[4], 0.6180339887498949):reshape(sizes)
  local weights = hashed(18*sizes[2]^2, 0.7320508075688772):reshape(2*sizes[2], sizes[2], 3, 3)
  local images32, weights32 = images:to("f32"), weights:to("f32")
  local conv_grad = pl.grad(function(p) return pl.sum(pl.conv2d(p[1], p[2], {padding = 1})) end)
  local field = x(("1:%d"):format(m == 32 and 992 or n)):reshape(-1, m)
  local rng = pl.rng(1)
  local cumprod_grad = pl.grad(function(v) return pl.sum(pl.cumprod(v)) end)
  -- one matrix of 100 rows, or a thousand of 8
  local M = n == 1000 and hashed(10000, 0.2360679774997898):reshape(100, 100) or hashed(64000, 0.2360679774997898):reshape(1000, 8, 8)
  M = M - 0.5 + 2*pl.eye(M.shape[2])
  local V, u, v, knots = hashed(m*m, 0.2360679774997898):reshape(m, m), x*(m - 1) + 1, hashed(n, 0.7320508075688772)*(m - 1) + 1, pl.linspace(0, 1, m)
  local function bent(p) return pl.sum(pl.bilinear(p.u, p.v, p.V)) end
  local pairs_ = hashed(2*n, 0.6457513110645906) -- complex numbers
  local lines, line, plane = pairs_:reshape(n/1000, 1000, 2), pairs_:reshape(n, 2), x:reshape(m == 32 and 25 or 1000, m == 32 and 40 or 1000)
  local rest = {
    {"erf", function() return pl.erf(x) end}, {"gelu", function() return pl.gelu(x) end}, {"lgamma", function() return pl.lgamma(x) end},
    {"betainc", function() return pl.betainc(5*second + 0.5, 5.5 - 5*second, x) end}, {"expint", function() return pl.expint(10*x) end},
    {"sum", function() return pl.sum(rows, 2) end}, {"argmax", function() return pl.argmax(rows, 2) end},
    {"softmax", function() return pl.softmax(rows) end}, {"sort", function() return pl.sort(x) end},
    {"roll", function() return pl.roll(x, 5) end}, {"take", function() return pl.take(x, places) end},
    {"einsum", function() return pl.einsum("ijb,jkb->ikb", T, T) end}, {"solve", function() return pl.solve(A, b) end},
    {"einsum_batch", function() return pl.einsum("bij,bjk->bik", B, B) end},
    {"einsum_matrix", function() return pl.einsum("abc,cd->abd", B, D) end},
    {"einsum_rows", function() return pl.einsum("ij,ij->i", rows, rows) end},
    {"cumsum", function() return pl.cumsum(x) end}, {"cumprod", function() return pl.cumprod(near) end},
    {"cumprod_gradient", function() return cumprod_grad(near) end},
    {"median", function() return pl.median(x) end}, {"topk", function() return (pl.topk(x, 10)) end},
    {"searchsorted", function() return pl.searchsorted(sorted, x) end}, {"where", function() return pl.where(mask, x, near) end},
    {"segment_sum", function() return pl.segment_sum(x, bins, 100) end}, {"segment_max", function() return pl.segment_max(x, bins, 100) end},
    {"bincount", function() return pl.bincount(bins, 100) end}, {"var", function() return pl.var(rows, 2) end},
    {"logsumexp", function() return pl.logsumexp(rows, 2) end}, {"rolling_sum", function() return pl.rolling_sum(x, 50) end},
    {"rolling_var", function() return pl.rolling_var(x, 50) end}, {"rolling_max", function() return pl.rolling_max(x, 50) end},
    {"conv2d", function() return pl.conv2d(images, weights, {padding = 1}) end},
    {"conv2d_grad", function() return conv_grad{images, weights}[2] end},
    {"conv2d_f32", function() return pl.conv2d(images32, weights32, {padding = 1}) end},
    {"conv2d_grad_f32", function() return conv_grad{images32, weights32}[2] end},
    {"max_pool2d", function() return pl.max_pool2d(images, 2) end}, {"gaussian_filter", function() return pl.gaussian_filter(field, 3) end},
    {"uniform", function() return rng:uniform(n) end}, {"normal", function() return rng:normal(n) end},
    {"permutation", function() return rng:permutation(n) end}, {"gamma", function() return rng:gamma(2.5, n) end}, {"poisson", function() return rng:poisson(3, n) end},
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
    local total = pl.sum(name == "normal" and y^2 or name == "qr" and pl.abs(y) or y:to("f64")):item() -- random numbers agree by their law
    print(("%d %s %.17g %.17g"):format(n, name, best, total))
  end
end
