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

describe("heat_scan", function()
  it("finds a and b within three standard errors", function()
    local example, text = run "heat_scan"
    assert.is_truthy(text:find("a = 2.015 +- 0.033\nb = 1.482 +- 0.046\ncorrelation -0.998, chi-squared 37.8", 1, true), text)
    local x, stderr = example.fit.x, example.stderr
    assert.is_true(example.fit.converged)
    assert.is_true(math.abs(x.a - 2) < 3*stderr.a and math.abs(x.b - 1.5) < 3*stderr.b)
    -- the errors themselves: the Hessian of half the sum of squares by differences of its gradient
    local slope = pl.grad(function(p) return 0.5*pl.sum(example.residual(p)^2) end)
    local function column(da, db)
      local up, down = slope{a = x.a + da, b = x.b + db}, slope{a = x.a - da, b = x.b - db}
      return (up.a - down.a)/(2*(da + db)), (up.b - down.b)/(2*(da + db))
    end
    local aa, ab = column(1e-4, 0)
    local ba, bb = column(0, 1e-4)
    local det = aa*bb - ab*ba
    assert.is_true(math.abs(math.sqrt(bb/det)/stderr.a - 1) < 0.1)
    assert.is_true(math.abs(math.sqrt(aa/det)/stderr.b - 1) < 0.1)
  end)
end)

describe("heat_field", function()
  it("recovers the field within 5 % in under 20 seconds", function()
    local start = os.clock()
    local example, text = run "heat_field"
    assert.is_truthy(text:find("relative error of k: 0.023", 1, true), text)
    assert.is_true(os.clock() - start < 20)
    assert.is_true(example.error < 0.05, ("relative error %.3f"):format(example.error))
    -- less than a third of the distance from where it began
    local truth = example.truth
    assert.is_true(example.error < (pl.norm(truth - 1)/pl.norm(truth)):item()/3)
  end)
end)

describe("lotka_volterra", function()
  local example, text
  setup(function() example, text = run "lotka_volterra" end)

  it("finds the rates within three standard errors", function()
    for k, name in ipairs{"a", "b", "c", "d"} do
      local off = math.abs(example.value[name] - example.truth:item(k))
      assert.is_true(off < 3*example.stderr[name], name)
      assert.is_true(example.stderr[name] < 0.03*example.value[name], name)
    end
    assert.is_true(example.fit.converged)
    assert.is_truthy(text:find("a = 0.5419 +- 0.0070\nb = 0.0278 +- 0.0006\nc = 0.0246 +- 0.0004\nd = 0.8050 +- 0.0095", 1, true), text)
  end)

  it("integrates with order 4, and keeps c u - d log u + b v - a log v", function()
    local function final(substeps) return example.populations(example.truth, 5, substeps)(-1, ":") end
    local coarse, middle, fine = final(10), final(20), final(40)
    local p = math.log((pl.norm(coarse - middle)/pl.norm(middle - fine)):item())/math.log(2)
    assert.is_true(math.abs(p - 4) < 0.2, ("order %.2f"):format(p))
    local a, b, c, d = unpack(example.truth:totable())
    local function energy(u, v) return c*u - d*math.log(u) + b*v - a*math.log(v) end
    assert.is_true(math.abs(energy(fine:item(1), fine:item(2))/energy(30, 4) - 1) < 1e-5)
  end)
end)

describe("lorenz", function()
  local example, text
  setup(function() example, text = run "lorenz" end)

  it("has adjoints that agree with tangents to 1e-12", function()
    assert.is_true(example.growth > 10)
    assert.is_true(math.abs(example.forward - example.reverse) <= 1e-12*math.abs(example.forward))
    assert.is_true(example.checked.difference < 1e-10)
    assert.is_truthy(text:find("tangent grows 3135 times; <J v, w> = 2113.986", 1, true), text)
  end)

  it("has tangents that agree with differences", function()
    local function moved(t) return example.integrate{y = example.at.y + t*example.v.y, rates = example.at.rates} end
    local difference = (moved(1e-8) - moved(-1e-8))/2e-8
    assert.is_true((pl.norm(difference - example.Jv)/pl.norm(example.Jv)):item() < 1e-5)
  end)

  it("has the same gradient with checkpoints, bit for bit", function()
    for _, name in ipairs{"y", "rates"} do assert.are.same(example.stored[name]:totable(), example.recomputed[name]:totable()) end
  end)
end)

describe("chain_frequencies", function()
  it("finds the stiffnesses within 1 %", function()
    local r = run "chain_frequencies"
    assert.is_true(r.error < 0.01 and r.misfit < 5e-4, ("%g %g"):format(r.error, r.misfit))
  end)
end)

describe("newton_relation", function()
  it("learns the conductivity as a function of the solution", function()
    local example = run "newton_relation"
    assert.is_true(example.error < 1e-2, ("error %.2e"):format(example.error))
  end)
end)

describe("poisson_network", function()
  it("recovers the field as a network", function()
    local example = run "poisson_network"
    assert.is_true(example.error < 0.05, ("relative error %.3f"):format(example.error))
    assert.are.equal("stopped", example.result.status)
    assert.are.equal("lbfgs", example.result.stages[2].method)
  end)
end)

describe("function_inverse", function()
  it("recovers the function to 1e-3 everywhere", function()
    local example = run "function_inverse"
    assert.is_true(example.error < 1e-3, ("error %.2e"):format(example.error))
  end)
end)

describe("heat_sensors", function()
  it("recovers the conductivity under 1 % and 10 % noise", function()
    local example = run "heat_sensors"
    for k, limit in ipairs{0.05, 0.1} do
      assert.is_true(example[k].error < limit, ("relative error %.3f"):format(example[k].error))
      assert.is_true(math.abs(example[k].result.value - 0.97) < 0.01)
      assert.is_true(example[k].result.converged)
    end
  end)
end)

describe("formulations", function()
  it("differ as its header says", function()
    local example = run "formulations"
    assert.is_true(example.physics_constrained.error < 1e-3)
    assert.is_true(pl.norm(example.physics_constrained.p - example.all_at_once.p, "max"):item() < 1e-5)
    assert.is_true(example.residual.error > 0.5)
    assert.is_true(example.penalty_small.error > 0.02 and example.penalty_small.error < 0.1)
    assert.is_true(example.penalty_large.error < 0.01)
    assert.is_true(example.penalty_large.evaluations > 50*example.physics_constrained.evaluations)
  end)
end)

describe("implicit_cubic", function()
  it("has y, its slope and the coefficient", function()
    local example = run "implicit_cubic"
    assert.is_true(example.error < 1e-14 and example.slope_error < 1e-14)
    assert.is_true(math.abs(example.c - 1) < 1e-8)
  end)
end)
