-- Fourier transforms against the sum that defines them, and what follows from it.
local pl = require "perilune"

local function fails(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(text, 1, true), message)
end
local function apart(a, b) return pl.max(pl.abs(a - b)):item() end

-- The sum over j of x_j e^(-2 pi i j k/n), angles reduced exactly.
local function slow(x, n)
  local k = pl.arange(0, n - 1)
  local angle = -2*math.pi/n*pl.mod(pl.outer(k, k), n)
  local c, s, re, im = pl.cos(angle), pl.sin(angle), x(":", 1), x(":", 2)
  return pl.stack({c:matmul(re) - s:matmul(im), s:matmul(re) + c:matmul(im)}, 2)
end

describe("fft", function()
  it("is the sum for all short lengths, primes and powers; ifft is its inverse", function()
    local rng = pl.rng(1)
    local lengths = {97, 101, 128, 243, 251, 360, 509, 625}
    for n = 1, 50 do lengths[#lengths + 1] = n end
    for _, n in ipairs(lengths) do
      local x = rng:normal(n, 2)
      local y = pl.fft(x)
      assert.is_true(apart(y, slow(x, n)) < 3e-13*math.sqrt(n), "n = " .. n)
      assert.is_true(apart(pl.ifft(y), x) < 2e-15*(1 + math.log(n)), "n = " .. n)
      local r = x(":", 1)
      local half = pl.rfft(r)
      assert.are.same({math.floor(n/2) + 1, 2}, half.shape)
      assert.is_true(apart(half, pl.fft(pl.stack({r, 0*r}, 2))({1, math.floor(n/2) + 1}, ":")) < 1e-14*n, "n = " .. n)
      assert.is_true(apart(pl.irfft(half, n), r) < 2e-15*(1 + math.log(n)), "n = " .. n)
    end
  end)

  it("keeps the sum of squares in long transforms, f64 and f32", function()
    for _, n in ipairs {65536, 65537, 100000} do
      local x = pl.rng(n):normal(n, 2)
      local a, b = pl.sum(x^2):item(), pl.sum(pl.fft(x)^2):item()/n
      assert.is_true(math.abs(a - b) < 1e-13*a)
      local single = pl.cast(x, "f32")
      assert.is_true(apart(pl.cast(pl.ifft(pl.fft(single)), "f64"), pl.cast(single, "f64")) < 5e-6)
    end
  end)

  it("differentiates periodic functions and is differentiated", function()
    local n = 64
    local t = pl.arange(0, n - 1)*(2*math.pi/n)
    local y = pl.exp(pl.sin(t))
    local k = pl.arange(0, n/2):at(n/2 + 1):set(0)
    local function derivative(v)
      local s = pl.rfft(v)
      return pl.irfft(pl.stack({-k*s(":", 2), k*s(":", 1)}, 2), n)
    end
    assert.is_true(apart(derivative(y), pl.cos(t)*y) < 1e-12)
    local function loss(v) return pl.sum(derivative(v)^4) end
    assert.is_true(pl.check_grad(loss, 0.1*y).gradient > 1.9)
    assert.are.equal(loss(y):item(), pl.compile(loss)(y):item())
  end)

  it("in two and three dimensions is one along each axis", function()
    local x = pl.rng(4):normal(4, 5, 6, 2)
    assert.is_true(apart(pl.ifftn(pl.fftn(x)), x) < 1e-15*8)
    local v = pl.rng(5):normal(6, 10)
    assert.is_true(apart(pl.irfft2(pl.rfft2(v), 10), v) < 1e-15*8)
  end)

  it("dct: the orthonormal one keeps lengths, idct undoes it", function()
    local x = pl.rng(6):normal(3, 30)
    assert.is_true(apart(pl.idct(pl.dct(x)), x) < 1e-14)
    local n, k = 8, 3
    local basis = pl.cos(math.pi/n*(pl.arange(0, n - 1) + 0.5)*k)
    local want = pl.zeros(n):at(k + 1):set(n) -- SciPy's factor 2
    assert.is_true(apart(pl.dct(basis), want) < 1e-14)
  end)

  it("bad input", function()
    fails("fft", pl.fft, pl.ones(4, 3))
    fails("fft", pl.fft, pl.ones(0, 2))
    fails("rfft", pl.rfft, pl.tensor(1))
    fails("irfft", pl.irfft, pl.ones(4, 2), 12)
  end)
end)
