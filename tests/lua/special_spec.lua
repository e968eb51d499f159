-- Special functions against tests/data/special.csv (mpmath, 40 digits; special.py makes it).
local pl = require "perilune"

local function error_of(line)
  local name, n, x, want, condition = line:match("^(%a+),(%d+),([^,]+),([^,]+),([^,]+)$")
  n, x, want, condition = tonumber(n), tonumber(x), tonumber(want), tonumber(condition)
  local v = pl.tensor(x)
  local got = (name == "polygamma" and pl.polygamma(v, n) or pl[name](v)):item()
  -- relative, less what one rounding of x makes of it
  local e = math.abs(got - want)/(math.abs(want) + 1e-300)/2^-52/(1 + condition)
  return e, line, got
end

describe("special functions", function()
  it("lgamma, digamma, polygamma and erfinv within 6 ulp, and the rounding of their argument", function()
    local count = 0
    for line in io.lines "tests/data/special.csv" do
      local e, text, got = error_of(line)
      assert.is_true(e <= 6, ("%s: %.17g, %.1f ulp"):format(text, got, e))
      count = count + 1
    end
    assert.is_true(count > 180)
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
