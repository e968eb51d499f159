-- Derivatives and minimization through the language.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse

local function close(a, b, tolerance) assert.is_true(math.abs(a - b) <= tolerance, ("%.17g is not %.17g"):format(a, b)) end

describe("derivatives", function()
  it("grad, value_and_grad with aux and wrt", function()
    local function f(a, b) return pl.sum(a*b), {a*2, "text"} end
    local v, g, aux = pl.value_and_grad(f, {wrt = 2})(pl.tensor{1, 2}, pl.tensor{3, 4})
    assert.are.equal(11, v:item())
    assert.are.same({1, 2}, g:totable())
    assert.are.same({2, 4}, aux[1]:totable())
    assert.are.equal("text", aux[2])
  end)

  it("jvp, vjp and hvp agree with closed forms", function()
    local x, t = pl.tensor{0.3, 0.7}, pl.tensor{1, -2}
    local y, dy = pl.jvp(function(p) return {s = pl.sin(p), e = pl.exp(p)} end, x, t)
    close(dy.s:item(2), -2*math.cos(0.7), 1e-15)
    close(dy.e:item(1), math.exp(0.3), 1e-15)
    close(y.s:item(1), math.sin(0.3), 1e-15)
    local v, pull = pl.vjp(function(p) return p^3 end, x)
    close(v:item(2), 0.343, 1e-15)
    for _ = 1, 2 do close(pull(pl.tensor{0, 1}):item(2), 3*0.49, 1e-14) end
    local h = pl.hvp(function(p) return pl.sum(pl.exp(p))*pl.sum(p) end)(x, t)
    local e1, e2, s = math.exp(0.3), math.exp(0.7), 1.0
    close(h:item(1), (e1*s + 2*e1)*1 + (e1 + e2)*(-2), 1e-12)
  end)

  it("nests to any order", function()
    local f = function(x) return x^5 end
    for _ = 1, 4 do
      local g = f
      f = function(x) return pl.grad(g)(x) end
    end
    close(f(2.0), 240, 1e-11)
    -- a derivative with respect to y at y = x sees x as a constant
    local d = pl.grad(function(x) return pl.grad(function(y) return x^2*y^3 end)(x) end)(2.0)
    close(d, 4*3*2^3*1 + 0*d, 1e-12)
  end)

  it("perturbations are not confused", function()
    -- d/dx (x * d/dy (x + y)) = 1
    close(pl.grad(function(x) return x*pl.grad(function(y) return x + y end)(1.0) end)(1.0), 1, 0)
    local _, t = pl.jvp(function(x)
      local _, u = pl.jvp(function(y) return x + y end, pl.tensor(1), pl.tensor(1))
      return x*u
    end, pl.tensor(1), pl.tensor(1))
    close(t:item(), 1, 0)
  end)

  it("constant and detach are not differentiated", function()
    local g = pl.grad(function(p)
      local c = pl.constant(function() return pl.ones(2)*3 end)
      return pl.sum(p*c*p:detach())
    end)(pl.tensor{1, 2})
    assert.are.same({3, 6}, g:totable())
  end)

  it("check_grad accepts right gradients and finds wrong ones", function()
    local A = sparse.diags({-1, 2.5, -1}, {-1, 0, 1}, 5)
    local rates = pl.check_grad(function(p) return pl.sum(((p.b*A):solve(pl.exp(p.c)))^2) end, {b = 1.3, c = pl.linspace(0, 1, 5)})
    assert.is_true(math.abs(rates.gradient - 2) < 0.2 and math.abs(rates.hessian - 3) < 0.3)
    assert.are.equal(math.huge, pl.check_grad(function(p) return pl.sum(3*p) end, pl.ones(3)).gradient)
    pl.check_grad(function(p) return pl.sum(p^2) end, pl.ones(3))
    pl.check_grad(function(p) return 1e-8*pl.sum(pl.sin(p)) + 1 end, pl.ones(3))
    local ok, text = pcall(pl.check_grad, function(p) -- a derivative that is 1 % off
      return pl.sum(pl.sin(p) + 0.01*(pl.sin(p) - pl.sin(p):detach()))
    end, pl.ones(3))
    assert.is_false(ok)
    assert.is_truthy(text:find("gradient is wrong", 1, true), text)
  end)

  it("sparse gradients: solve, product, gram, kron, transpose", function()
    local rng = pl.rng(3)
    local B = sparse.triplets(rng:integers(1, 6, 14), rng:integers(1, 4, 14), rng:normal(14), 6, 4)
    local I = sparse.eye(4)
    local b = pl.ones(4)
    pl.check_grad(function(p)
      local C = sparse.triplets({1, 2, 3, 4, 2}, {1, 2, 3, 4, 1}, p.v, 4)
      local A = B:gram(pl.exp(p.d)) + I*p.s + (C.T*C)*0.1
      local u = A:solve(b*p.s)
      local w = A:factor{definite = true}:solve(u)
      return pl.sum(u*w) + pl.sum((sparse.kron(C, I)*pl.ones(16))^2) + pl.sum(C:dense()^2) + pl.sum((C/p.s):gram(pl.ones(4))*b)
    end, {v = rng:normal(5), d = rng:normal(6), s = 2.0})
  end)

  it("a parameter without a path has a zero gradient", function()
    local g = pl.grad(function(p) return pl.sum(p.a) end){a = pl.ones(2), unused_here = pl.ones(3)}
    assert.are.same({0, 0, 0}, g.unused_here:totable())
    local r = pl.minimize(function(p) return (p.a - 1)^2 end, {a = 0, idle = 5})
    assert.are.equal(5, r.x.idle)
    assert.is_truthy(r.message:find("idle has no path", 1, true))
  end)

  it("f32 stays f32", function()
    local g = pl.grad(function(p) return pl.mean(pl.tanh(p*0.5)^2) end)(pl.ones{3, dtype = "f32"})
    assert.are.equal("f32", g.dtype)
  end)
end)

describe("minimize", function()
  it("keeps the tree, its numbers and its dtypes", function()
    local r = pl.minimize(function(p) return (p.a - 3)^2 + pl.sum((p.list[1] - 2)^2) + pl.sum((p.list[2] + p.a)^2), p.a*2 end,
      {a = 1, list = {pl.zeros(2, 2), pl.zeros{3, dtype = "f32"}}}, {rtol = 1e-14})
    assert.is_true(r.converged)
    close(r.x.a, 3, 1e-5)
    close(r.x.list[1]:item(2, 2), 2, 1e-5)
    assert.are.equal("f32", r.x.list[2].dtype)
    close(r.aux:item(), 6, 1e-4)
    assert.are.equal("number", type(r.gradient.a))
    assert.are.equal(r.iterations, r.history[#r.history].k)
    assert.is_truthy(tostring(r):find("converged"))
  end)

  it("bounds, limits, stop", function()
    local f = function(p) return pl.sum((p.x - pl.tensor{1, 5})^2) end
    local r = pl.minimize(f, {x = pl.zeros(2)}, {bounds = {x = {0, 2}}})
    assert.are.same({1, 2}, {math.floor(r.x.x:item(1)*1e6 + 0.5)/1e6, r.x.x:item(2)})
    r = pl.minimize(f, {x = pl.zeros(2)}, {bounds = {x = {nil, pl.tensor{0.5, 9}}}})
    close(r.x.x:item(1), 0.5, 0)
    assert.are.equal("iterations", pl.minimize(function(p) return pl.sum((1 - p)^2 + 100*(p - p^3)^2) end, pl.full({3}, -1.2), {iterations = 2}).status)
    assert.are.equal("stopped", pl.minimize(function(p) return pl.sum(pl.exp(p) - p) end, pl.ones(3), {stop = function(it) return it.k >= 1 end}).status)
  end)

  it("a NaN shortens the step", function()
    local r = pl.minimize(function(p) return p - pl.log(p) end, 300.0)
    close(r.x, 1, 1e-5)
  end)
end)

describe("memory", function()
  it("a gradient leaves nothing behind", function()
    local x = pl.ones(100)
    local f = pl.grad(function(p) local s = pl.tanh(p*p); return pl.sum(s*p) end)
    local function rounds(n) for _ = 1, n do f(x) end; collectgarbage(); collectgarbage(); return core.memory() end
    local before, after = rounds(200), rounds(2000)
    assert.are.equal(before.live, after.live)
    assert.is_true(after.used <= before.used*1.01)
  end)

  it("large temporaries are collected as they come", function()
    collectgarbage()
    local x = pl.ones(2^17)
    local start = core.memory().used
    for _ = 1, 2000 do local _ = x + 1 end -- 2 GB in all
    assert.is_true(core.memory().used - start < 120e6)
  end)
end)
