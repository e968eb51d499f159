-- Programs inside programs, and steps whose derivatives read what is easily forgotten.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse

local rng = pl.rng(3)
local n = 3
local L = sparse.diags({-1, 3, -0.5}, {-1, 0, 1}, {n, n})
local x, d = rng:normal(2, n), rng:uniform(2, n) + 2
local t = {x = rng:normal(2, n), d = rng:normal(2, n)}

local function equal(got, want, tolerance)
  assert.are.same(want.shape, got.shape)
  local difference = pl.max(pl.abs(got - want)):item()
  assert.is_true(difference <= tolerance*(1 + pl.max(pl.abs(want)):item()), ("differs by %g"):format(difference))
end

-- Gradient and Hessian product of the two losses at {x, d} agree.
local function agree(f, g)
  local p = {x = x, d = d}
  local a, b = pl.grad(f)(p), pl.grad(g)(p)
  equal(a.x, b.x, 1e-13)
  equal(a.d, b.d, 1e-13)
  a, b = pl.hvp(f)(p, t), pl.hvp(g)(p, t)
  equal(a.x, b.x, 1e-13)
  equal(a.d, b.d, 1e-13)
end

describe("nested programs", function()
  it("a step whose derivative reads nothing but what it returns", function()
    for _, g in ipairs{pl.tanh, pl.exp, pl.sigmoid, pl.sqrt} do
      agree(function(p) return pl.sum((pl.scan(function(u) return g(u) end, pl.abs(p.x)*p.d*0.1, 3))) end,
        function(p) return pl.sum(g(g(g(pl.abs(p.x)*p.d*0.1)))) end)
    end
  end)

  it("loops in loops, solves in them", function()
    local function solve(q) return pl.sin((L + sparse.diag(q.d)):solve(q.u)) end
    local function rows(u, v)
      local _, y = pl.scan(function(s, q) return s, solve(q) end, core.tensor(0), {u = u, d = v})
      return y
    end
    for steps = 1, 3 do
      agree(function(p) return pl.sum((pl.scan(function(u) return rows(u, p.d) + p.x end, p.x, steps))) end, function(p)
        local u = p.x
        for _ = 1, steps do u = pl.stack{solve{u = u[1], d = p.d[1]}, solve{u = u[2], d = p.d[2]}} + p.x end
        return pl.sum(u)
      end)
    end
  end)

  it("one value captured by several programs of a program", function()
    local w = rng:normal(n)
    local f = pl.checkpoint(function(u) return pl.sin(u*w) end)
    local function g(u) return pl.sin(u*w) end
    agree(function(p) return pl.sum((pl.scan(function(u) return f(f(u*p.d)) + f(p.x) end, p.x, 3))) end, function(p)
      local u = p.x
      for _ = 1, 3 do u = g(g(u*p.d)) + g(p.x) end
      return pl.sum(u)
    end)
  end)

  it("a while loop in a loop", function()
    local function grow(u, k)
      return (pl.while_loop(function(z) return pl.sum(z*z):lt(10) end, function(z) return z*1.5 + 0.1*k end, u))
    end
    local function loss(p)
      local _, y = pl.scan(function(s, q) return s, grow(q.u, q.d[1]) end, core.tensor(0), {u = p.x, d = p.d})
      return pl.sum(pl.sin(y))
    end
    pl.check_grad(loss, {x = x, d = d})
    local function plain(p) return pl.sum(pl.sin(grow(p.x[1], p.d(1, 1)))) + pl.sum(pl.sin(grow(p.x[2], p.d(2, 1)))) end
    local a, b = pl.grad(loss){x = x, d = d}, pl.grad(plain){x = x, d = d}
    equal(a.x, b.x, 1e-14)
    equal(a.d, b.d, 1e-14)
  end)
end)
