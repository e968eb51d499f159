-- Sparse least squares and minimum norm against dense algebra; derivatives; errors.
local pl = require "perilune"
local sparse = pl.sparse
local expect = require "tests.expect"
local near = expect.near

local rng = pl.rng(5)
local tall = sparse.diags({rng:normal(9), 2 + rng:uniform(9), rng:normal(9), 0.5}, {-4, 0, -1, -6}, {15, 9})

describe("lstsq", function()
  it("agrees with dense least squares and minimum norm", function()
    local b, B = rng:normal(15), rng:normal(15, 3)
    near(tall:lstsq(b), pl.lstsq(tall:dense(), b), 1e-13)
    near(tall:lstsq(B), pl.lstsq(tall:dense(), B), 1e-13)
    local M = tall.T:dense()
    local c, C = rng:normal(9), rng:normal(9, 2)
    near(tall.T:lstsq(c), M.T:matmul(pl.solve(M:matmul(M.T), c)), 1e-13)
    near(tall.T:lstsq(C), M.T:matmul(pl.solve(M:matmul(M.T), C)), 1e-13)
    local S = sparse.diags({-1, 3, -0.5}, {-1, 0, 1}, 9)
    near(S:lstsq(c), S:solve(c), 1e-14)
  end)

  it("has derivatives to second order, compiled and in loops", function()
    local x = {v = 0.2*rng:normal(tall.nnz), b = rng:normal(15, 2), c = rng:normal(9)}
    local function loss(p)
      local A = sparse.with_values(tall, tall.values + p.v)
      return pl.sum(pl.sin(A:lstsq(p.b))) + pl.sum(A.T:lstsq(p.c)^3)
    end
    pl.check_grad(loss, x, {order = 2})
    local compiled = pl.compile(loss)
    assert.are.equal(loss(x):item(), compiled(x):item())
    near(pl.grad(compiled)(x).v, pl.grad(loss)(x).v, 1e-12)
    local function walk(p)
      local A = sparse.with_values(tall, tall.values + p)
      return pl.sum(pl.scan(function(u) return pl.sin(A:lstsq(A*u + 1)) end, pl.ones(9), 3)^2)
    end
    pl.check_grad(walk, x.v)
  end)

  it("errors", function()
    local function fails(text, ...)
      local ok, message = pcall(...)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    end
    local lost = sparse.triplets({1, 2, 3, 4}, {1, 1, 3, 3}, {1, 2, 3, 4}, 5, 3)
    fails("rank 2, not 3", lost.lstsq, lost, pl.ones(5))
    fails("rank 2, not 3", lost.T.lstsq, lost.T, pl.ones(3))
    fails("{15}", tall.lstsq, tall, pl.ones(9))
    fails("right-hand side is nil", tall.lstsq, tall)
    local bad = sparse.with_values(tall, tall.values/0)
    fails("entry in row", bad.lstsq, bad, pl.ones(15))
  end)
end)
