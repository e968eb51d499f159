-- Fourier, cosine and sine transforms against tests/data/fourier.csv (SciPy; fourier.py makes it), closed forms and theorems; the same
-- bits alone, in a batch and on threads; spectral solvers and their gradients; bad input. Accuracy is measured in tests/c/fft.c.
local pl = require "perilune"

local function near(a, b, tolerance)
  if type(a) ~= "number" then a = pl.max(pl.abs(a - b)):item() b = 0 end
  assert.is_true(math.abs(a - b) <= (tolerance or 1e-14)*(1 + math.abs(b)), ("%.17g is not %.17g"):format(a, b))
end
local function same(a, b)
  assert.are.same(a.shape, b.shape)
  assert.are.equal(pl.tensor(a).dtype, b.dtype)
  assert.is_true(a:bytes() == b:bytes(), "other bits")
end
local fails = require("tests.expect").fails
local function noise(...) return pl.rng(7):normal(...) end

describe("transforms", function()
  it("agree with SciPy's in f64 and f32, for any norm, axis, length and type", function()
    local count = 0
    for text in io.lines "tests/data/fourier.csv" do
      local name, arguments, shape, values = text:match("^(%w+);([^;]*);([^;]*);([^;]*)$")
      local sizes, want = {}, {}
      for n in shape:gmatch("%d+") do sizes[#sizes + 1] = tonumber(n) end
      for v in values:gmatch("%S+") do want[#want + 1] = tonumber(v) end
      local options = loadstring(arguments ~= "" and "return {" .. arguments .. "}" or "")
      local total = 1
      for _, n in ipairs(sizes) do total = total*n end
      local j = pl.arange(0, total - 1)
      local x = (((7*j*j + 3*j + 1) % 11 - 5)/4):reshape(sizes)
      for dtype, eps in pairs{f64 = 1e-15, f32 = 4e-7} do
        local y = pl.ravel(pl[name](x:to(dtype), options()))
        assert.are.equal(#want, #y, text)
        assert.are.equal(dtype, y.dtype)
        local size, off = pl.max(pl.abs(pl.tensor(want))):item(), pl.max(pl.abs(y:to("f64") - pl.tensor(want))):item()
        assert.is_true(off <= 6*eps*size + 1e-300, ("%s {%s} of {%s}: off by %g of %g"):format(name, arguments, shape, off, size))
      end
      count = count + 1
    end
    assert.are.equal(272, count)
  end)

  it("a single frequency, a delta, whole numbers", function()
    local n = 1000
    local j = pl.arange(0, n - 1)
    local y = pl.fft(pl.complex(pl.cos(2*math.pi*37/n*j), pl.sin(2*math.pi*37/n*j)))
    near(y:item(38, 1), n, 1e-13)
    near(pl.max(pl.complex_abs(y)("39:1000")):item(), 0, 1e-10)
    near(pl.rfft(pl.concat{pl.ones(1), pl.zeros(n - 1)}), pl.complex(pl.ones(501), 0))
    assert.are.same({{6, 0}, {0, 0}, {-2, 0}}, pl.rfft(pl.tensor({1, 2, 1, 2}, {dtype = "i64"})):totable())
  end)

  it("Parseval, shift, linearity, there and back, for lengths of every method", function()
    for _, n in ipairs{1, 2, 7, 30, 64, 97, 360, 1000, 1009, 4096, 10007, 16384, 20000} do
      local x, z = noise{n, 2}, pl.rng(8):normal{n, 2}
      local y = pl.fft(x)
      near(pl.sum(y^2):item()/n, pl.sum(x^2):item(), 1e-13)
      near(pl.fft(3*x - z), 3*y - pl.fft(z), 1e-12*math.sqrt(n))
      near(pl.ifft(y), x, 1e-14)
      local k = pl.arange(0, n - 1)*(2*math.pi/n)
      near(pl.fft(pl.roll(x, 1, 1)), pl.complex_mul(y, pl.complex(pl.cos(k), -pl.sin(k))), 1e-12*math.sqrt(n))
      local r = pl.real(x)
      near(pl.irfft(pl.rfft(r), {n = n}), r, 1e-14)
      near(pl.idct(pl.dct(r)), r, 1e-14)
      near(pl.dct(pl.dct(r, {ortho = true}), {type = 3, ortho = true}), r, 1e-14)
      near(pl.sum(pl.dst(r, {ortho = true})^2):item(), pl.sum(r^2):item(), 1e-13)
      near(pl.rfft(r), pl.fft(pl.complex(r, 0))({1, math.floor(n/2) + 1}), 1e-12*math.sqrt(n))
    end
  end)

  it("the derivative of a smooth periodic function to 1e-12", function()
    local n = 64
    local x = pl.arange(0, n - 1)*(2*math.pi/n)
    local f, k = pl.exp(pl.sin(x)), pl.rfftfreq(n, 1/n)
    local d = pl.irfft(pl.complex_mul(pl.rfft(f), pl.complex(0*k, k)))
    near(d, pl.cos(x)*f, 1e-12)
  end)

  it("a product of transforms is a convolution", function()
    local a, b = noise{50}, pl.rng(3):normal{20}
    local c = pl.irfft(pl.complex_mul(pl.rfft(a, 69), pl.rfft(b, 69)), 69)
    for _, k in ipairs{1, 5, 33, 69} do
      local sum = 0
      for i = math.max(1, k - 19), math.min(50, k) do sum = sum + a:item(i)*b:item(k - i + 1) end
      near(c:item(k), sum, 1e-13)
    end
  end)

  it("the same bits alone, in a batch, along any axis, on any number of threads", function()
    for _, dtype in ipairs{"f64", "f32"} do
      for _, n in ipairs{6, 64, 100, 120, 59, 1000, 9000} do
        local x = noise{n, 11, 2}:to(dtype) -- lines side by side
        local rows = pl.transpose(x, {2, 1, 3})
        local y = pl.fft(x, {axis = 1})
        local real = pl.rfft(pl.real(x), {axis = 1})
        local cosines = pl.dct(pl.real(rows))
        same(pl.transpose(pl.fft(rows, {axis = 2}), {2, 1, 3}), y)
        same(pl.transpose(pl.rfft(pl.real(rows)), {2, 1, 3}), real)
        for _, k in ipairs{1, 9} do
          same(pl.fft(rows(k, ":", ":")), y(":", k, ":"))
          same(pl.ifft(rows(k, ":", ":")), pl.ifft(x, {axis = 1})(":", k, ":"))
          same(pl.irfft(real(":", k, ":"), n), pl.irfft(real, {axis = 1, n = n})(":", k))
          same(pl.dct(pl.real(rows(k, ":", ":"))), cosines(k, ":"))
          same(pl.idct(cosines(k, ":")), pl.idct(pl.transpose(cosines), {axis = 1})(":", k))
        end
        for threads = 1, 3 do
          pl.with({threads = threads}, function()
            same(pl.fft(x, {axis = 1}), y)
            same(pl.dct(pl.real(rows)), cosines)
          end)
        end
      end
      local long = noise{2^17, 2}:to(dtype)
      local y, r = pl.fft(long), pl.rfft(pl.ravel(long))
      for threads = 1, 3 do
        pl.with({threads = threads}, function()
          same(pl.fft(long), y)
          same(pl.rfft(pl.ravel(long)), r)
        end)
      end
    end
  end)

  it("a NaN stays in its line", function()
    local x = pl.concat{pl.ones(3, 40), pl.full({1, 40}, 0/0), pl.ones(5, 40)}
    local bad = pl.isnan(pl.rfft(x)(":", 4, 1))
    assert.are.same({false, false, false, true, false, false, false, false, false}, bad:totable())
  end)

  it("nothing of nothing, one of one", function()
    assert.are.same({0, 4, 2}, pl.fft(pl.zeros(0, 4, 2)).shape)
    assert.are.same({3, 0, 4, 4, 2}, pl.rfft2(pl.zeros(3, 0, 7, 4), {axis = {1, 3}}).shape)
    assert.are.same({{5, 0}}, pl.rfft(pl.tensor{5}):totable())
    assert.are.same({5}, pl.irfft(pl.tensor{{5, 3}}):totable())
  end)

  it("frequencies and shifts are NumPy's", function()
    assert.are.same({0, 1, 2, -2, -1}, pl.fftfreq(5, 0.2):totable())
    assert.are.same({0, 1, -2, -1}, pl.fftfreq(4, 0.25):totable())
    assert.are.same({0, 0.5, 1}, pl.rfftfreq(4, 0.5):totable())
    assert.are.same({{0}, {0}}, {pl.fftfreq(1):totable(), pl.rfftfreq(1):totable()})
    assert.are.equal("f32", pl.fftfreq(4, 1, {dtype = "f32"}).dtype)
    assert.are.same({-2, -1, 0, 1, 2}, pl.fftshift(pl.fftfreq(5, 0.2)):totable())
    assert.are.same({0, 1, 2, -2, -1}, pl.ifftshift(pl.tensor{-2, -1, 0, 1, 2}):totable())
    assert.are.same({{4, 3}, {2, 1}}, pl.fftshift(pl.tensor{{1, 2}, {3, 4}}, {axis = {1, 2}}):totable())
  end)
end)

describe("complex numbers", function()
  local z = pl.tensor{{3, 4}, {0, -2}}
  it("are pairs", function()
    same(pl.complex(pl.tensor{3, 0}, pl.tensor{4, -2}), z)
    assert.are.same({{7, 0}, {8, 0}}, pl.complex(pl.tensor{7, 8}, 0):totable())
    assert.are.same({{3, 0}, {4, -2}}, {pl.real(z):totable(), pl.imag(z):totable()})
    assert.are.same({5, 2}, pl.complex_abs(z):totable())
    assert.are.same({{3, -4}, {0, 2}}, pl.conj(z):totable())
    near(pl.angle(z), pl.tensor{math.atan2(4, 3), -math.pi/2}, 1e-15)
    assert.are.same({{-7, 24}, {-4, 0}}, pl.complex_mul(z, z):totable())
    assert.are.same({{-4, 3}, {2, 0}}, pl.complex_mul(z, pl.tensor{0, 1}):totable())
    assert.are.equal("f32", pl.complex_mul(z:to("f32"), z:to("f32")).dtype)
  end)
  it("have derivatives with respect to both parts", function()
    local w = pl.tensor{{1, 2}, {-1, 3}}
    local f = function(p) return pl.sum(pl.complex_abs(pl.complex_mul(p.a, pl.conj(p.b)))*pl.angle(p.a)) end
    pl.check_grad(f, {a = z, b = w})
    local g = pl.grad(function(a) return pl.sum(pl.real(pl.complex_mul(a, w))) end)(z) -- conj(w)
    same(g, pl.conj(w))
    local h = pl.hvp(function(a) return pl.sum(pl.real(pl.complex_mul(a, pl.complex_mul(a, a)))) end)(z, w)
    near(h, pl.conj(6*pl.complex_mul(z, w)), 1e-13)
  end)
end)

describe("gradients", function()
  it("are transforms", function()
    local x, w = noise{2, 9, 2}, pl.rng(2):normal{2, 9, 2}
    near(pl.grad(function(v) return pl.sum(pl.fft(v)*w) end)(x), 9*pl.ifft(w), 1e-13)
    local n = 8
    local g = pl.grad(function(v) return pl.sum(pl.rfft(v)^2) end)(noise{n})
    local hessian = pl.hessian(function(v) return pl.sum(pl.irfft(v, n)^2) end)(pl.zeros(5, 2)):reshape(10, 10)
    -- |x|^2 = (X_0^2 + 2 sum |X_k|^2 + X_4^2)/n; the imaginary parts at 0 and n/2 are not read
    near(hessian, pl.diag(pl.tensor{2, 0, 4, 4, 4, 4, 4, 4, 2, 0}/n), 1e-14)
    assert.are.same({n}, g.shape)
    for _, f in ipairs{
      function(v) return pl.sum(pl.tanh(pl.rfft2(v))) end, function(v) return pl.sum(pl.irfftn(pl.rfftn(v)^2, {n = 5})) end,
      function(v) return pl.sum(pl.dct(v, {type = 3, axis = 1})*pl.dst(v)^2) end, function(v) return pl.sum(pl.dct(v, 1)*pl.fftshift(v^2, {axis = 2})) end,
    } do pl.check_grad(f, noise{4, 5}) end
  end)

  it("of a Poisson problem, compiled: the solution is exact, the gradient is the solution again", function()
    local n = 32
    local x = pl.arange(0, n - 1)*(2*math.pi/n)
    local X, Y = pl.meshgrid(x, x)
    local kx, ky = pl.meshgrid(pl.fftfreq(n, 1/n), pl.rfftfreq(n, 1/n))
    local k2 = kx^2 + ky^2
    local inverse = pl.where(k2:gt(0), 1/pl.maximum(k2, 1), 0):expand(1) -- the mean is 0
    local function solve(f) return pl.irfft2(pl.rfft2(f)*inverse) end
    local u = pl.sin(X)*pl.cos(2*Y) + pl.cos(3*X)
    local f = 5*pl.sin(X)*pl.cos(2*Y) + 9*pl.cos(3*X)
    near(solve(f), u, 1e-14)
    local w = pl.cos(X)*pl.sin(Y)
    local loss = pl.compile(function(v) return pl.sum(solve(v)*w) end)
    near(pl.grad(loss)(f), w/2, 1e-14) -- the solver is symmetric: -Laplace's inverse of w
    near(loss(f):item(), pl.sum(u*w):item(), 1e-11)
  end)

  it("of a heat equation in a loop: d/d nu of e^(-nu t) sin x", function()
    local n, steps, nu = 64, 10, 0.3
    local x = pl.arange(0, n - 1)*(2*math.pi/n)
    local k2 = (pl.rfftfreq(n, 1/n)^2):expand(1)
    local function loss(p)
      local decay = pl.exp(-0.1*p*k2)
      local u = pl.scan(function(v) return pl.irfft(pl.rfft(v)*decay, n) end, pl.sin(x), steps)
      return pl.sum(u^2)
    end
    local value, g = pl.value_and_grad(loss)(pl.tensor(nu))
    near(value:item(), n/2*math.exp(-2*nu), 1e-13)
    near(g:item(), -n*math.exp(-2*nu), 1e-13)
    near(pl.value_and_grad(pl.compile(loss))(pl.tensor(nu)):item(), value:item(), 1e-14)
    near(pl.hvp(loss)(pl.tensor(nu), pl.tensor(1)):item(), 2*n*math.exp(-2*nu), 1e-12)
  end)

  it("mapped over entries", function()
    local x = noise{5, 6, 4}
    local f = function(v) return pl.rfft2(v), pl.dct(v, {axis = -2}), pl.complex_mul(pl.rfft(v), pl.complex(v(":", "1:3"), 2)) end
    local a, b, c = pl.map(f, x)
    for k = 1, 5 do
      local u, v, w = f(x(k, ":", ":"))
      same(a(k, ":", ":", ":"), u)
      same(b(k, ":", ":"), v)
      same(c(k, ":", ":", ":"), w)
    end
  end)
end)

describe("FFTW by choice", function()
  local function by(backend, f, ...)
    local args = {...}
    return pl.with({fft = backend}, function() return f(unpack(args)) end)
  end
  local installed = pcall(by, "fftw", function() end)

  if installed then
    it("agrees with our transforms, for any length, kind, norm, axis and batch", function()
      for dtype, tolerance in pairs{f64 = 1e-14, f32 = 1e-6} do
        for _, n in ipairs{1, 2, 3, 8, 45, 59, 1000, 1009, 1024, 9000} do
          for _, m in ipairs{1, 11} do
            local x = noise{n, m, 2}:to(dtype)
            local r, half = pl.real(x), pl.rfft(pl.real(x), {axis = 1})
            local cases = {
              {pl.fft, x, {axis = 1}}, {pl.fft, pl.transpose(x, {2, 1, 3})}, {pl.ifft, x, {axis = 1}}, {pl.fft2, x, {ortho = true}},
              {pl.rfft, r, {axis = 1}}, {pl.rfft, pl.transpose(r)}, {pl.rfft2, r}, {pl.irfft, half, {axis = 1, n = n}},
              {pl.irfft, pl.transpose(half, {2, 1, 3}), n}, {pl.dct, r, {axis = 1}}, {pl.idct, pl.transpose(r)}, {pl.dst, r, {axis = 1, type = 3}},
            }
            for k, case in ipairs(cases) do
              local own, other = case[1](unpack(case, 2)), by("fftw", unpack(case))
              assert.are.same(own.shape, other.shape)
              assert.are.equal(dtype, other.dtype)
              local size, off = pl.max(pl.abs(own)):item(), pl.max(pl.abs(own - other)):item()
              assert.is_true(off <= tolerance*size, ("case %d of {%d, %d} in %s: off by %g of %g"):format(k, n, m, dtype, off, size))
            end
          end
        end
      end
    end)

    it("gives the same bits alone, in a batch, along any axis, on any number of threads", function()
      for _, dtype in ipairs{"f64", "f32"} do
        for _, n in ipairs{59, 100, 1024, 9001} do
          local x = noise{n, 11, 2}:to(dtype)
          local rows = pl.transpose(x, {2, 1, 3})
          local y, real = by("fftw", pl.fft, x, {axis = 1}), by("fftw", pl.rfft, pl.real(rows))
          for threads = 1, 3 do
            pl.with({threads = threads, fft = "fftw"}, function()
              same(pl.transpose(pl.fft(rows), {2, 1, 3}), y)
              same(pl.rfft(pl.real(rows)), real)
              same(pl.fft(rows(9, ":", ":")), y(":", 9, ":"))
              same(pl.rfft(pl.real(x), {axis = 1})(":", 9, ":"), real(9, ":", ":"))
              same(pl.irfft(real, n)(9, ":"), pl.irfft(real(9, ":", ":"), n))
            end)
          end
        end
      end
    end)

    it("has our gradients, and holds for functions compiled before", function()
      local function f(v) return pl.sum(pl.tanh(pl.irfft(pl.rfft(v)^2, 9))*pl.dct(v)) end
      local x = noise{9}
      local compiled = pl.compile(f)
      local value, g = compiled(x):item(), pl.grad(compiled)(x)
      pl.with({fft = "fftw"}, function()
        pl.check_grad(f, x)
        near(compiled(x):item(), value, 1e-13)
        near(pl.grad(compiled)(x), g, 1e-13)
      end)
      assert.are.equal("own", pl.default().fft)
      assert.are.equal(value, compiled(x):item())
    end)

    it("runs when it is chosen: other bits than ours", function()
      local x = noise{1024, 2}
      assert.is_false(by("fftw", pl.fft, x):bytes() == pl.fft(x):bytes())
    end)
  else
    it("says what to do where it is not there", function()
      fails("install FFTW (Debian: libfftw3-dev), configure with PERILUNE_GPL=ON and build again", by, "fftw", pl.fft, noise{4, 2})
    end)
  end

  it("is looked for where PERILUNE_FFTW says", function()
    local ffi = require "ffi"
    ffi.cdef "int setenv(const char *, const char *, int); int unsetenv(const char *);"
    local before = os.getenv "PERILUNE_FFTW"
    ffi.C.setenv("PERILUNE_FFTW", "/nowhere/perilune_fftw.so", 1)
    local ok, message = pcall(fails, "fftw cannot be opened (/nowhere/perilune_fftw.so", by, "fftw", pl.fft, noise{4, 2})
    if before then ffi.C.setenv("PERILUNE_FFTW", before, 1) else ffi.C.unsetenv "PERILUNE_FFTW" end
    assert.is_true(ok, message)
    assert.are.equal("own", pl.default().fft)
  end)

  it("is one of two", function()
    fails('Fourier transforms are "own" or by "fftw", not by "mkl"', pl.default, {fft = "mkl"})
  end)
end)

describe("bad input", function()
  local z = pl.zeros(3, 4, 2)
  it("is an error that says what is wrong", function()
    fails("fft: shape {3} is not complex", pl.fft, pl.zeros(3))
    fails("is not complex", pl.real, pl.tensor(1))
    fails("there is no axis 3 in shape {3, 4, 2}, whose last one is the parts'", pl.fft, z, {axis = 3})
    fails("there is no axis -3", pl.fft2, z, {axis = {1, -3}})
    fails("there is no axis -2 in shape {4}", pl.rfft2, pl.zeros(4))
    fails("axis 1 of shape {0, 2} is empty", pl.fft, pl.zeros(0, 2))
    fails("axis 1 is given twice", pl.fftn, z, {axis = {1, -2}})
    fails("needs an axis; none is given", pl.fftn, z, {axis = {}})
    fails("needs an axis; none is there", pl.fftn, pl.zeros(2))
    fails("there is no axis -1 in shape {}", pl.rfft, pl.tensor(1))
    fails("n = -1; it is the length along the axis", pl.fft, z, -1)
    fails("n = 2147483648", pl.rfft, z, 2^31)
    fails("more than 2^31 - 1 elements", pl.rfft, z, 2^31 - 1)
    fails("n = 5 does not fit the axis of 4 frequencies: n is 6 or 7", pl.irfft, z, 5)
    fails("n = 2 does not fit the axis of 4 frequencies", pl.irfft2, z, 2)
    fails("ortho and forward exclude each other", pl.ifft, z, {ortho = true, forward = true})
    fails("at most 8 are possible", pl.rfft, pl.zeros(1, 1, 1, 1, 1, 1, 1, 1))
    fails("type 4; there are 1, 2 and 3", pl.dct, pl.zeros(4), 4)
    fails("type 1 needs at least 2 numbers", pl.dct, pl.zeros(1), {type = 1})
    fails("axis 2 of shape {3, 0} is empty", pl.dst, pl.zeros(3, 0))
    fails("say along which axes", pl.fftshift, z)
    fails("there is no axis 4", pl.ifftshift, z, 4)
    fails("do not broadcast", pl.complex_mul, z, pl.zeros(5, 2))
    fails("do not broadcast", pl.complex, pl.zeros(3), pl.zeros(2))
    fails("has no option 'norm'", pl.fft, z, {norm = "ortho"})
    fails("samples is whole and at least 1, not 0", pl.fftfreq, 0)
    fails("spacing is a number other than 0", pl.rfftfreq, 4, 0)
  end)
end)
