-- The examples do what their headers say.
local pl = require "perilune"

local function run(name)
  local lines = {}
  local printf, print_ = pl.printf, print
  rawset(pl, "printf", function(format, ...)
    local args = {...}
    for k, v in ipairs(args) do if pl.is_tensor(v) then args[k] = v:item() end end
    lines[#lines + 1] = format:format(unpack(args))
  end)
  _G.print = function() end
  local ok, result = pcall(dofile, "examples/" .. name .. ".lua")
  rawset(pl, "printf", printf)
  _G.print = print_
  assert(ok, result)
  return result, table.concat(lines)
end

-- E1(u), the exponential integral: series (Abramowitz and Stegun 5.1.11) or continued fraction (5.1.22)
local function E1(u)
  if u < 2 then
    local sum, term = -0.57721566490153286 - math.log(u), 1
    for k = 1, 60 do
      term = -term*u/k
      sum = sum - term/k
    end
    return sum
  end
  local f = 0
  for k = 200, 1, -1 do f = k/(1 + k/(u + f)) end
  return math.exp(-u)/(u + f)
end

describe("first_inversion", function()
  it("prints b = 1.0000000000", function()
    local _, text = run "first_inversion"
    assert.are.equal("b = 1.0000000000\n", text)
  end)
end)

describe("pumping_test", function()
  local example, text
  setup(function() example, text = run "pumping_test" end)

  it("fits k, Ss and RMSE as published", function()
    assert.is_true(math.abs(example.k/66.09 - 1) < 0.005)
    assert.is_true(math.abs(example.Ss/2.541e-5 - 1) < 0.015)
    assert.is_true(example.rmse >= 0.0500 and example.rmse <= 0.0502)
    assert.is_truthy(text:find("k = 66.09 m/d (95 %: 62.8 to 69.4)", 1, true), text)
    assert.is_true(example.result.converged)
  end)

  it("is within 0.5 % of Theis wherever the drawdown exceeds 1 cm", function()
    local k, Ss = 66.09, 2.541e-5
    local m = example.model(20, 16, 2e-3/1440, 850/1440)
    local s = m.drawdown(k, Ss)
    local worst, compared = 0, 0
    for i = 2, #m.times do
      for well, r in ipairs{30, 90} do
        local theis = 788/(4*math.pi*7*k)*E1(r^2*Ss/(4*k*m.times[i]))
        if theis > 0.01 and m.times[i] <= 850/1440 then
          worst = math.max(worst, math.abs(s:item(i - 1, well)/theis - 1))
          compared = compared + 1
        end
      end
    end
    assert.is_true(compared > 80)
    assert.is_true(worst < 0.005, ("off by %.2f %%"):format(100*worst))
    assert.is_true(math.abs(E1(1) - 0.21938393439552) < 1e-12 and math.abs(E1(3) - 0.013048381094197) < 1e-12)
  end)

  -- Differences of successive refinements fall by 2^order.
  local function order(value, a, b, c) return math.log(math.abs(value(a) - value(b))/math.abs(value(b) - value(c)))/math.log(2) end

  it("has order 2 in space", function()
    local first, last = 2e-3/1440, 10/1440
    local function value(cells)
      local m = example.model(cells, 16, first, last)
      return (m.at{8/1440}*m.drawdown(66, 2.5e-5)(":", 1)):item()
    end
    local p = order(value, 10, 20, 40)
    assert.is_true(math.abs(p - 2) < 0.2, ("order %.2f"):format(p))
  end)

  it("has order 2 in time", function()
    local function value(steps)
      local m = example.model(10, steps, 1e-5/1440, 10/1440)
      local row = 6*steps + 2 -- the time a million times the first, on every grid
      assert.is_true(math.abs(m.times[row]*1440/10 - 1) < 1e-12)
      return m.drawdown(66, 2.5e-5):item(row - 1, 1)
    end
    local p = order(value, 8, 16, 32)
    assert.is_true(math.abs(p - 2) < 0.2, ("order %.2f"):format(p))
  end)

  it("takes under 2 seconds", function()
    local start = os.clock()
    run "pumping_test"
    assert.is_true(os.clock() - start < 2)
  end)
end)

describe("coefficient_field", function()
  it("recovers the field within 10 %", function()
    local example = run "coefficient_field"
    assert.is_true(example.error < 0.1)
  end)
end)
