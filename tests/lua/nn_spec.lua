local pl = require "perilune"
local expect = require "tests.expect"

local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance*(1 + math.abs(b)), ("%.17g, not %.17g"):format(a, b)) end
local function same(a, b) assert.is_true(a.count == b.count and pl.norm(a:ravel() - b:ravel(), "max"):item() == 0) end

local function leaves(net)
  local list = {}
  for k, leaf in ipairs((pl.tree.leaves(net))) do list[k] = leaf.path end
  return list
end

describe("mlp", function()
  it("is dense layers with an activation between them", function()
    local net = pl.nn.mlp{2, 3, 1, activation = "sin", output = "exp", output_scale = 0.5, input = {{0, 2}, {-1, 3}}, seed = 4}
    local x, y, value = 0.3, 2.5, net[2].bias:item(1)
    local a, b = x - 1, (y - 1)/2
    for j = 1, 3 do value = value + math.sin(a*net[1].weight:item(1, j) + b*net[1].weight:item(2, j) + net[1].bias:item(j))*net[2].weight:item(j, 1) end
    close(net(x, y):item(), 0.5*math.exp(value), 1e-14)
    assert.are.same({"[1].bias", "[1].weight", "[2].bias", "[2].weight"}, leaves(net))
  end)

  it("begins as Glorot says, from the seed", function()
    local net, again, other = pl.nn.mlp{1, 50, 60, 1, seed = 3}, pl.nn.mlp{1, 50, 60, 1, seed = 3}, pl.nn.mlp{1, 50, 60, 1, seed = 4}
    local limit, w = math.sqrt(6/110), net[2].weight
    assert.is_true(pl.norm(w, "max"):item() < limit)
    assert.is_true(pl.norm(w, "max"):item() > 0.99*limit)
    close(w:std():item(), limit/math.sqrt(3), 0.02)
    assert.are.equal(0, pl.norm(net[2].bias, "max"):item())
    same(w, again[2].weight)
    assert.is_true(pl.norm(w - other[2].weight, "max"):item() > 0)
    pl.with({seed = 3}, function() same(w, pl.nn.mlp{1, 50, 60, 1}[2].weight) end)
  end)

  it("takes inputs apart or stacked, of any shape", function()
    local net, x = pl.nn.mlp{2, 8, 1, seed = 1}, pl.linspace(-1, 1, 4)
    local X, Y = pl.meshgrid(x, x)
    local values = net(X, Y)
    assert.are.same({4, 4}, values.shape)
    close(values:item(2, 3), net(x:item(2), x:item(3)):item(), 1e-14)
    assert.are.same({}, net(0.5, 1).shape)
    local stacked = net(pl.stack({X, Y}, {axis = 3}))
    assert.are.same({4, 4, 1}, stacked.shape)
    same(stacked, values)
    same(net(X, 0.5), net(X, pl.full({4, 4}, 0.5)))
    same(net(0.5, Y), net(pl.full({4, 4}, 0.5), Y))
    assert.are.same({4, 4, 3}, pl.nn.mlp{2, 8, 3}(X, Y).shape)
    assert.are.same({4, 3}, pl.nn.mlp{2, 8, 3}(X("1:4", "1:2")).shape)
    local curve = pl.nn.mlp{1, 8, 1}
    for _, v in ipairs{pl.tensor(0.5), x, X, pl.zeros(2, 3, 4), pl.zeros(0)} do assert.are.same(v.shape, curve(v).shape) end
    assert.are.same({4, 4, 2}, pl.nn.mlp{1, 8, 2}(X).shape)
  end)

  it("may be f32", function()
    local net = pl.with({dtype = "f32"}, function() return pl.nn.mlp{2, 4, 1, input = {{0, 1}, {0, 2}}, seed = 1} end)
    for _, leaf in ipairs((pl.tree.leaves(net))) do assert.are.equal("f32", leaf.value.dtype) end
    local x = pl.linspace(0, 1, 3)
    local y = net(x:to "f32", 0.5)
    assert.are.equal("f32", y.dtype)
    local wide = pl.tree.map(function(t) return t:to "f64" end, net)
    close(y:item(2), wide(x, 0.5):item(2), 1e-6)
  end)

  it("can be made in a traced function", function()
    local x = pl.ones(3)
    local function f(v) return pl.sum(pl.nn.mlp{1, 2, 1, activation = "softsign", output = "atan", seed = 1}(v)) end
    same(f(x), pl.compile(f)(x))
  end)

  it("prints its architecture", function()
    assert.are.equal("mlp 2 -> 20 -> 20 -> 1, tanh, output softplus, input (0, 1): 501 parameters",
      tostring(pl.nn.mlp{2, 20, 20, 1, output = "softplus", input = {0, 1}}))
    assert.are.equal("mlp 1 -> 1, times 0.02: 2 parameters", tostring(pl.nn.mlp{1, 1, output_scale = 0.02}))
    assert.are.equal("mlp 2 -> 2 -> 1, a function, input (0, 1), (0, 5): 9 parameters",
      tostring(pl.nn.mlp{2, 2, 1, activation = function(x) return x^3 end, input = {{0, 1}, {0, 5}}}))
  end)

  it("has derivatives to second order, as parameter and in its inputs", function()
    local net, x = pl.nn.mlp{2, 6, 5, 1, input = {-1, 2}, output = "softplus", seed = 2}, pl.linspace(-1, 1, 5)
    local function loss(k) return pl.sum(k(x, x^2)^2) end
    local rates = pl.check_grad(loss, net)
    assert.is_true(rates.gradient > 1.8 and rates.hessian > 2.7)
    rates = pl.check_grad(function(p) return pl.sum(pl.sin(net(p.x, p.y))) end, {x = x, y = pl.exp(x)})
    assert.is_true(rates.gradient > 1.8 and rates.hessian > 2.7)
    local g = pl.grad(loss)(net)
    assert.are.equal(getmetatable(net), getmetatable(g))
    assert.are.same({2, 6}, g[1].weight.shape)
  end)

  it("compiles, maps, and works in bodies of scan and newton", function()
    local net, x = pl.nn.mlp{1, 6, 1, input = {0, 1}, output = "softplus", seed = 2}, pl.linspace(0.1, 0.9, 5)
    local function loss(k)
      local u = pl.newton(function(u) return u*k(u) - x end, x)
      local v = pl.scan(function(v) return v + 0.1*k(v) end, u, 3)
      return pl.sum(pl.map(function(a) return k(a)^2 end, v))
    end
    local value, g = pl.value_and_grad(loss)(net)
    local compiled, h = pl.value_and_grad(pl.compile(loss))(net)
    same(value, compiled)
    for k = 1, 2 do
      same(g[k].weight, h[k].weight)
      same(g[k].bias, h[k].bias)
    end
    assert.is_true(pl.check_grad(loss, net).gradient > 1.8)
  end)

  it("a compiled function knows nets of the same sizes apart", function()
    local x = pl.linspace(-1, 1, 5)
    local f = pl.compile(function(k) return k(x) end)
    local tanh = pl.nn.mlp{1, 4, 1, seed = 1}
    for _, other in ipairs{pl.nn.mlp{1, 4, 1, seed = 1, activation = "sin"}, pl.nn.mlp{1, 4, 1, seed = 1, output = "exp"},
      pl.nn.mlp{1, 4, 1, seed = 1, input = {0, 3}}, pl.nn.mlp{1, 4, 1, seed = 1, output_scale = 3}} do
      same(tanh(x), f(tanh))
      same(other(x), f(other))
    end
  end)

  it("checks what it is given", function()
    local mlp = pl.nn.mlp
    expect.fails("no option 'activations'; it has activation, input, output, output_scale, seed", mlp, {1, 2, 1, activations = "tanh"})
    for _, name in ipairs{"tahn", "sort", "cumsum", "softmax", "transpose", "sum", "logical_not", "add"} do
      expect.fails(("no elementwise function '%s' for activation; there are tanh"):format(name), mlp, {1, 2, 1, activation = name})
    end
    for _, name in ipairs{"relu", "gelu", "silu", "softplus", "sigmoid", "sin", "sqrt", "log", "abs", "exp", "leaky_relu", "elu"} do mlp{1, 2, 1, output = name} end
    expect.fails("no elementwise function 'tahn' for output", mlp, {1, 2, 1, output = "tahn"})
    expect.fails("activation is the name of an elementwise function, or a function, not number", mlp, {1, 2, 1, activation = 3})
    expect.fails("mlp needs 2 sizes or more, not 1", mlp, {1})
    expect.fails("size 2 is 2.5", mlp, {1, 2.5, 1})
    expect.fails("size 1 is 0", mlp, {0, 1})
    expect.fails("mlp needs a table, mlp{...}, not number", mlp, 1)
    expect.fails("seed is a whole number, not 1.5", mlp, {1, 1, seed = 1.5})
    expect.fails("output_scale is a number, not string", mlp, {1, 1, output_scale = "2"})
    for _, input in ipairs{{1, 0}, {1, 1}, {1}, {0, 1/0}, {0/0, 1}, "no"} do expect.fails("input is {lo, hi} with lo < hi", mlp, {1, 1, input = input}) end
    expect.fails("input has 1 ranges for 2 inputs", mlp, {2, 1, input = {{0, 1}}})
    local net = mlp{2, 3, 1}
    expect.fails("mlp 2 -> 3 -> 1 takes 2 inputs (or one tensor, stacked along its last axis), not 3", net, 1, 2, 3)
    expect.fails("mlp 2 -> 3 -> 1 takes 2 inputs, or one whose last axis has 2 entries; its shape is {3}", net, pl.ones(3))
    expect.fails("its shape is {}", net, 1)
    expect.fails("input 2 is a tensor or a number, not nil", net, 1, nil)
    expect.fails("{3}", net, pl.ones(3), pl.ones(2))
    expect.fails("takes 1 input, not 0", mlp{1, 1})
  end)
end)

describe("dense and sequential", function()
  it("are the parts of other nets", function()
    local net = pl.nn.sequential{pl.nn.dense{2, 8, activation = "relu", seed = 1}, "tanh", function(x) return 2*x end, pl.nn.dense{8, 3, seed = 2}}
    local x = pl.rng(1):normal(5, 2)
    local y = pl.relu(pl.matmul(x, net[1].weight) + net[1].bias)
    same(net(x), pl.matmul(2*pl.tanh(y), net[4].weight) + net[4].bias)
    assert.are.equal("sequential: 51 parameters\n  dense 2 -> 8, relu: 24 parameters\n  tanh\n  a function\n  dense 8 -> 3: 27 parameters", tostring(net))
    assert.are.same({"[1].bias", "[1].weight", "[4].bias", "[4].weight"}, leaves(net))
    assert.is_true(pl.check_grad(function(k) return pl.sum(k(x)^2) end, pl.nn.sequential{pl.nn.mlp{2, 3, 2}, pl.nn.dense{2, 1}}).hessian > 2.7)
    assert.are.same({4, 5, 3}, pl.nn.dense{2, 3}(pl.ones(4, 5, 2)).shape)
    assert.are.same({3}, pl.nn.dense{2, 3}(pl.ones(2)).shape)
  end)

  it("check what they are given", function()
    expect.fails("dense has 2 sizes, not 3; mlp", pl.nn.dense, {1, 2, 3})
    expect.fails("dense has no option 'output'; it has activation, seed", pl.nn.dense, {1, 2, output = "exp"})
    expect.fails("dense 2 -> 3: the last axis of its input has 2 entries; its shape is {4, 5}", pl.nn.dense{2, 3}, pl.ones(4, 5))
    expect.fails("dense 2 -> 3 needs a tensor, not nil", pl.nn.dense{2, 3})
    expect.fails("sequential needs a part", pl.nn.sequential, {})
    expect.fails("part 1 is a module, a function or the name of an elementwise one, not number", pl.nn.sequential, {3})
    expect.fails("no elementwise function 'tahn' for part 2", pl.nn.sequential, {pl.nn.dense{1, 1}, "tahn"})
    expect.fails("sequential has no option 'seed'", pl.nn.sequential, {pl.nn.dense{1, 1}, seed = 2})
  end)
end)
