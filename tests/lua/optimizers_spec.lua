local pl = require "perilune"
local expect = require "tests.expect"

local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance*(1 + math.abs(b)), ("%.17g, not %.17g"):format(a, b)) end
local function rosenbrock(p) return 100*(p.y - p.x^2)^2 + (1 - p.x)^2 end
local start = {x = -1.2, y = 1}

describe("adam", function()
  it("takes PyTorch's steps", function() -- torch.optim.Adam and AdamW, the figures of tests/c/optimizers.c
    local last
    local function keep(it) last = it.k == 20 and it.x or last end
    local r = pl.minimize(rosenbrock, start, {method = "adam", rate = 0.05, iterations = 20, stop = keep})
    close(last.x, -1.0595395714182134, 1e-14)
    close(last.y, 1.0660051669986632, 1e-14)
    assert.are.same({20, 21, "iterations"}, {r.iterations, r.evaluations, r.status})
    pl.minimize(rosenbrock, start, {method = {"adam", rate = 0.05, beta1 = 0.8, beta2 = 0.95, epsilon = 1e-6, decay = 0.1}, iterations = 20, stop = keep})
    close(last.x, -0.95606975649399839, 1e-14)
    close(last.y, 0.96417493882505023, 1e-14)
  end)

  it("keeps to bounds, returns the lowest point, ends where the loss is not finite", function()
    local r = pl.minimize(function(p) return pl.sum((p - pl.tensor{1, 5})^2) end, pl.zeros(2),
      {method = "adam", rate = 0.1, bounds = {0, 2}, iterations = 500, atol = 1e-3})
    assert.is_true(r.converged)
    assert.are.equal(2, r.x:item(2))
    close(r.x:item(1), 1, 1e-3)
    r = pl.minimize(function(p) return p^2 end, 0.1, {method = "adam", rate = 1, iterations = 3})
    assert.are.equal(0.1, r.x) -- every step goes too far
    assert.is_true(r.history[2].value > r.value)
    r = pl.minimize(function(p) return p - pl.log(p) end, 5, {method = "adam", rate = 10})
    assert.are.same({"diverged", false, 5}, {r.status, r.converged, r.x})
    assert.is_truthy(r.message:find("a smaller rate", 1, true))
  end)

  it("has a rate that depends on the iteration", function()
    local rates, x = {0.5, 0.25, 0.125}, {}
    pl.minimize(function(p) return 3*p end, 4, {method = "adam", rate = function(k) return rates[k] end, iterations = 3,
      stop = function(it) x[#x + 1] = it.x end})
    for k, rate in ipairs(rates) do close(x[k] - x[k + 1], rate, 1e-7) end
    expect.fails("the schedule of rate gives nil", pl.minimize, rosenbrock, start, {method = "adam", rate = function() end})
    expect.fails("adam: rate is a positive number, not -1", pl.minimize, rosenbrock, start, {method = "adam", rate = function() return -1 end})
  end)

  it("gives the same bits again, compiled or not", function()
    local function run(compile)
      return pl.minimize(function(k) return pl.mean((k(pl.linspace(0, 1, 9)) - 1)^2) end, pl.nn.mlp{1, 8, 1},
        {method = {{"adam", iterations = 20}, {"lbfgs", iterations = 20}}, compile = compile})
    end
    local a, b, c = run(), run(), run(true)
    assert.are.equal(a.value, b.value)
    assert.are.equal(a.value, c.value)
    assert.are.equal(0, pl.norm(a.x[1].weight - c.x[1].weight, "max"):item())
  end)
end)

describe("methods in sequence", function()
  it("each begin at the best point before", function()
    local r = pl.minimize(rosenbrock, start, {method = {{"adam", iterations = 30, rate = 0.05}, "lbfgs"}, atol = 1e-8})
    assert.is_true(r.converged)
    close(r.x.x, 1, 1e-7)
    local a, b = r.stages[1], r.stages[2]
    assert.are.same({"adam", "lbfgs"}, {a.method, b.method})
    assert.are.equal(30, a.iterations)
    assert.are.equal(r.iterations, a.iterations + b.iterations)
    assert.are.equal(r.evaluations, a.evaluations + b.evaluations)
    assert.is_true(a.value < rosenbrock(start) and b.value < a.value and r.value == b.value)
    local k = 0
    for i, it in ipairs(r.history) do
      assert.are.equal(i - 1, it.k)
      if it.method == "adam" then k = it.k end
    end
    assert.are.equal(30, k)
    local text = tostring(r)
    for _, line in ipairs{("adam: value %.6g, stopped: the limit of iterations is reached after 30 iterations, 31 evaluations\nlbfgs: value "):format(a.value),
      ("converged after %d iterations, %d evaluations in all"):format(r.iterations, r.evaluations)} do
      assert.is_truthy(text:find(line, 1, true), text)
    end
  end)

  it("options beside the list hold for those that have them", function()
    local r = pl.minimize(rosenbrock, start, {method = {{"adam", iterations = 5}, {"lbfgs"}, {"adam"}}, iterations = 3, rtol = 0, rate = 1e-6})
    assert.are.same({5, 3, 3}, {r.stages[1].iterations, r.stages[2].iterations, r.stages[3].iterations})
    close(r.stages[3].step, 1e-6, 1e-9)
  end)

  it("stop ends them all and sees the state", function()
    local seen = {}
    local r = pl.minimize(rosenbrock, start, {method = {{"adam", iterations = 5}, {"lbfgs"}, {"adam"}}, stop = function(it)
      seen[#seen + 1] = it.method .. it.k
      assert.are.equal("number", type(it.x.x))
      close(it.value, rosenbrock(it.x), 1e-14)
      local g = pl.grad(rosenbrock)(it.x)
      close(it.gradient_norm, math.max(math.abs(g.x), math.abs(g.y)), 1e-14)
      return it.k == 7
    end})
    assert.are.same({"adam0", "adam1", "adam2", "adam3", "adam4", "adam5", "lbfgs6", "lbfgs7"}, seen)
    assert.are.same({2, "stopped", 7}, {#r.stages, r.status, r.iterations})
  end)

  it("progress shows each iteration", function()
    local script = "local pl = require 'perilune' pl.minimize(function(p) return 100*(p.y - p.x^2)^2 + (1 - p.x)^2 end, {x = -1.2, y = 1}, "
      .. "{method = {{'adam', iterations = 2}, {'lbfgs', iterations = 1}}, progress = true})"
    local pipe = io.popen(('%s -e "%s" 2>&1'):format(os.getenv "PERILUNE", script))
    local text = pipe:read "*a"
    pipe:close()
    for _, words in ipairs{"adam 0: value 24.2, gradient 2.16e+02, 1 evaluations", "adam 2: value", "lbfgs 3: value"} do
      assert.is_truthy(text:find(words, 1, true), text)
    end
  end)

  it("nets come back as nets", function()
    local x = pl.linspace(0, 1, 21)
    local k = pl.nn.mlp{1, 10, 1, seed = 1}
    local r = pl.minimize(function(p) return pl.mean((p.k(x) - p.a*pl.sin(3*x))^2) end, {k = k, a = 1},
      {method = {{"adam", iterations = 50, rate = 1e-2}, {"lbfgs", iterations = 100}}, bounds = {a = {1, 2}}})
    assert.is_true(r.value < 1e-5)
    assert.is_true(pl.norm(r.x.k(x) - r.x.a*pl.sin(3*x), "max"):item() < 0.02)
    assert.are.equal("mlp 1 -> 10 -> 1, tanh: 31 parameters", tostring(r.x.k))
    assert.are.equal("number", type(r.x.a))
    assert.is_truthy(tostring(r):find("  k[1].weight = f64 {1, 10}", 1, true))
  end)
end)

describe("a solve that fails on the way", function()
  local function loss(p) -- no root beyond 1
    local u = pl.newton(function(u) return u^2 - (1 - p) end, pl.ones(1), {iterations = 20})
    return pl.sum((u - 0.1)^2)
  end

  it("shortens the step of L-BFGS", function()
    local r = pl.minimize(loss, 0, {atol = 1e-9})
    assert.is_true(r.converged)
    close(r.x, 0.99, 1e-4)
  end)

  it("ends Adam, with the reason", function()
    local r = pl.minimize(loss, 0, {method = "adam", rate = 2})
    assert.are.equal("diverged", r.status)
    assert.is_truthy(r.message:find("; a solve failed: ", 1, true), r.message)
    assert.is_truthy(r.message:find("newton", 1, true), r.message)
  end)

  it("is an error at the start, as other errors are anywhere", function()
    expect.fails("singular", pl.minimize, loss, 2)
    expect.fails("no such place", pl.minimize, function(p) if p:item() ~= 0 then error "no such place" end return (p - 1)^2 end, 0)
  end)
end)

describe("minimize's options", function()
  local function fails(text, options) expect.fails(text, pl.minimize, rosenbrock, start, options) end

  it("name what there is", function()
    fails("minimize has no method 'sgd'; it has lbfgs, adam, or a list of them", {method = "sgd"})
    fails("minimize has no method 'sgd'", {method = {{"adam"}, {"sgd"}}})
    fails("minimize has no method '3'", {method = 3})
    fails("minimize has no method 'nil'", {method = {}})
    fails("the method adam has no option 'memory'; it has iterations, evaluations, atol, rate, beta1, beta2, epsilon, decay", {method = {"adam", memory = 3}})
    fails("minimize has no option 'rate'; it has atol, bounds, compile, evaluations, iterations, memory, method, progress, rtol, stop", {rate = 1e-3})
    fails("minimize has no option 'memory'; it has atol, beta1", {method = "adam", memory = 3})
    fails("rate is a number, or a function of the iteration that gives one, not string", {method = {"adam", rate = "slow"}})
    fails("lbfgs: memory is a whole number, 1 to 50, not 0", {memory = 0})
    fails("lbfgs: rtol is 0 or above, not -1", {rtol = -1})
    fails("adam: beta1 is 0 or above and below 1, not 1", {method = "adam", beta1 = 1})
    fails("stop is a function of the state, not number", {stop = 3})
    expect.fails("the options are a table, not number", pl.minimize, rosenbrock, start, 3)
  end)

  it("stand in its help", function()
    local help = require("perilune.help").text(pl, "minimize")
    for _, method in ipairs(require("perilune.core").methods()) do
      assert.is_truthy(help:find(method.name, 1, true))
      assert.is_truthy(help:find(method.text, 1, true))
      for _, setting in ipairs(method.settings) do assert.is_truthy(help:find("    " .. setting.name, 1, true), setting.name) end
    end
  end)
end)
