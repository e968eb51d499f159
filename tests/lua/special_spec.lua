-- Special functions against tests/data/special.csv (mpmath, 40 digits; special.py makes it).
local pl = require "perilune"
local nan = 0/0

local function value(name, n, x)
  local v = pl.tensor(x)
  if name == "polygamma" then return pl.polygamma(v, n):item() end
  if name:match "^gammainc" then return pl[name](pl.tensor(n), v):item() end
  if name == "slope" then return pl.grad(function(a) return pl.gammainc(a, v) end)(pl.tensor(n)):item() end
  return pl[name](v):item()
end

describe("special functions", function()
  it("are within the ulps that their help states, and the rounding of their arguments", function()
    local most = {lgamma = 6, digamma = 6, polygamma = 6, erfinv = 6, slope = 10}
    local count, worst = {}, {}
    for line in io.lines "tests/data/special.csv" do
      local name, n, x, want, condition = line:match("^(%w+),([^,]+),([^,]+),([^,]+),([^,]+)$")
      n, x, want, condition = tonumber(n), tonumber(x), tonumber(want), tonumber(condition)
      local got = value(name, n, x)
      local e = math.abs(got - want)/(math.abs(want) + 1e-300)/2^-52/(1 + condition)
      assert.is_true(e <= (most[name] or 4), ("%s: %.17g, %.1f ulp"):format(line, got, e))
      count[name], worst[name] = (count[name] or 0) + 1, math.max(worst[name] or 0, e)
    end
    for _, name in ipairs {"lgamma", "digamma", "polygamma", "erfinv", "j0", "j1", "y0", "y1", "i0e", "i1e", "k0e", "k1e"} do
      assert.is_true(count[name] >= 28, name)
    end
    for _, name in ipairs {"i0", "i1", "k0", "k1"} do assert.is_true(count[name] >= 24, name) end
    for _, name in ipairs {"gammainc", "gammaincc", "slope"} do assert.is_true(count[name] >= 90, name) end
  end)

  it("of the incomplete gamma functions and Bessel's: signs, ends, f32", function()
    local function list(...) return pl.tensor{...} end
    assert.are.same({0, 1, 1, 0}, pl.gammainc(list(2, 2, 0, math.huge), list(0, math.huge, 3, 3)):totable())
    assert.are.same({1, 0, 0, 1}, pl.gammaincc(list(2, 2, 0, math.huge), list(0, math.huge, 3, 3)):totable())
    assert.is_true(pl.all(pl.isnan(pl.gammainc(list(-1, 1, 0, nan), list(1, -1, 0, 1)))))
    local x = list(0.3, 2, 9, 40)
    for _, name in ipairs {"j0", "i0", "i0e"} do assert.are.same(pl[name](x):totable(), pl[name](-x):totable()) end
    for _, name in ipairs {"j1", "i1", "i1e"} do assert.are.same(pl[name](x):totable(), (-pl[name](-x)):totable()) end
    assert.are.same({1, 0, 1, 0, 1, 0}, {pl.j0(0):item(), pl.j1(0):item(), pl.i0(0):item(), pl.i1(0):item(), pl.i0e(0):item(), pl.i1e(0):item()})
    assert.are.same({-math.huge, -math.huge, math.huge, math.huge}, {pl.y0(0):item(), pl.y1(0):item(), pl.k0(0):item(), pl.k1(0):item()})
    for _, name in ipairs {"y0", "y1", "k0", "k1", "k0e", "k1e"} do assert.is_true(pl.all(pl.isnan(pl[name](list(-1, nan)))), name) end
    local inf = math.huge
    assert.are.same({0, 0, 0, inf, inf}, {pl.j0(inf):item(), pl.y1(inf):item(), pl.k0(inf):item(), pl.i0(inf):item(), pl.i1(800):item()})
    local single = pl.cast(x, "f32")
    for _, name in ipairs {"j0", "j1", "y0", "y1", "i0", "i1", "k0", "k1"} do
      local off = pl.abs(pl.cast(pl[name](single), "f64")/pl[name](pl.cast(single, "f64")) - 1)
      assert.is_true(pl.max(off):item() < 6.1e-8, name)
    end
  end)

  it("edges", function()
    assert.are.same({math.huge, 0, 0}, {pl.lgamma(pl.tensor(0)):item(), pl.lgamma(pl.tensor(1)):item(), pl.lgamma(pl.tensor(2)):item()})
    assert.is_true(pl.all(pl.isnan(pl.digamma(pl.tensor{0, -1, -2, -7}))))
    assert.is_true(pl.all(pl.isnan(pl.polygamma(pl.tensor{-0.5}, 2))))
    assert.are.same({math.huge, -math.huge, 0}, pl.erfinv(pl.tensor{1, -1, 0}):totable())
    assert.is_true(pl.all(pl.isnan(pl.erfinv(pl.tensor{1.5, -2}))))
    local x = pl.linspace(-0.99, 0.99, 41)
    assert.is_true(pl.max(pl.abs(pl.erf(pl.erfinv(x)) - x)):item() < 1e-15)
    assert.is_true(math.abs(pl.betaln(pl.tensor(2), pl.tensor(3)):item() - math.log(1/12)) < 1e-15)
    assert.is_true(math.abs(pl.beta(2, 3):item() - 1/12) < 1e-16)
    local y = pl.lgamma(pl.tensor({0.3, 4.5}, {dtype = "f32"}))
    assert.are.equal("f32", y.dtype)
    assert.is_true(math.abs(y:item(2) - 2.4537365708424423) < 1e-6)
  end)

  it("are differentiated into each other", function()
    pl.check_grad(function(p) return pl.sum(pl.lgamma(p)*pl.erfinv(p/9)) end, pl.tensor{0.4, 1.5, 3.2, 7})
    local g = pl.grad(function(p) return pl.sum(pl.lgamma(p)) end)(pl.tensor{1})
    assert.is_true(math.abs(g:item(1) + 0.57721566490153286061) < 1e-15)
  end)
end)
