-- Bad input: a clear Lua error at the user's line, and the session goes on.
local pl = require "perilune"
local core = require "perilune.core"

-- The error of f(), which must start with this file and the line where f's body stands.
local function message(f)
  local info = debug.getinfo(f, "S")
  local ok, text = pcall(f)
  assert.is_false(ok)
  local line = tonumber(tostring(text):match("errors_spec%.lua:(%d+): "))
  assert.is_truthy(line, text)
  assert.is_true(line >= info.linedefined and line <= info.lastlinedefined, text)
  return text
end

local function expect(f, ...)
  local text = message(f)
  for _, part in ipairs{...} do assert.is_truthy(text:find(part, 1, true), text) end
  assert.are.equal(2, (pl.ones(2) + 1):item(2)) -- the session goes on
end

describe("bad input", function()
  local x, y = pl.ones(3, 4), pl.ones(5)

  it("wrong shapes are printed", function()
    expect(function() local _ = x + y end, "add", "{3, 4} and {5}")
    expect(function() local _ = x:matmul(y) end, "matmul", "{3, 4} and {5}")
    expect(function() local _ = x:reshape(5, 5) end, "{3, 4}", "{5, 5}")
    expect(function() local _ = pl.stack{x, y} end, "{3, 4} and {5}")
    expect(function() local _ = pl.concat{x, y} end, "{3, 4} and {5}")
    expect(function() local _ = pl.broadcast_to(x, 3, 5) end, "{3, 4}", "{3, 5}")
  end)

  it("wrong types and nil", function()
    expect(function() local _ = pl.exp(nil) end, "exp", "argument 1 is nil")
    expect(function() local _ = x + nil end, "nil")
    expect(function() local _ = x + print end, "function")
    expect(function() local _ = pl.exp("1") end, "exp", "string")
    expect(function() local _ = pl.where(x, 1, 2) end, "must be bool")
    expect(function() local _ = pl.sum(x, 3) end, "axis 3")
    expect(function() local _ = pl.sum(x, 1.5) end, "whole number")
    expect(function() local _ = pl.tensor{{1, 2}, {3}} end, "ragged")
    expect(function() local _ = x + {} .. "" end)
    expect(function() local _ = x.nothing end, "nothing")
    expect(function() local _ = pl.nothing end, "nothing")
  end)

  it("comparisons say what to write", function()
    expect(function() local _ = x < y end, "x:lt(y)")
  end)

  it("indices, slices and masks", function()
    expect(function() local _ = x[4] end, "index 4 is out of range 1 to 3 on axis 1")
    expect(function() local _ = x(1, 5) end, "index 5 is out of range 1 to 4 on axis 2")
    expect(function() local _ = x[0] end, "out of range")
    expect(function() local _ = x(1, 1, 1) end, "more subscripts")
    expect(function() local _ = x["1:2:3:4"] end, "bad slice")
    expect(function() local _ = x["a:b"] end, "bad slice")
    expect(function() local _ = x["2:9"] end, "index 9 is out of range")
    expect(function() local _ = x[{1}] end, "{first, last}")
    expect(function() local _ = x[pl.tensor{1, 7}] end, "index 7")
    expect(function() local _ = x[pl.tensor{1.5}] end, "whole number")
    expect(function() local _ = x[y:gt(0)] end, "mask")
    expect(function() x[1] = 2 end, "t:at(1):set(v)")
    expect(function() local _ = x:item(9, 9) end, "out of range")
    expect(function() local _ = x:item() end, "{3, 4} is not one number")
  end)

  it("unknown options list the valid ones", function()
    expect(function() local _ = pl.sum(x, {axes = 1}) end, "'axes'", "axis, keep")
    expect(function() pl.minimize(function(p) return p end, 1, {iters = 3}) end, "'iters'", "iterations")
    expect(function() local _ = pl.zeros{3, type = "f32"} end, "dtype")
    expect(function() pl.check_grad(function(p) return p end, 1, {eps = 1}) end, "'eps'")
    expect(function() pl.default{precision = 1} end, "'precision'")
    expect(function() pl.sparse.eye(3):solve(pl.ones(3), {fast = true}) end, "'fast'", "definite")
  end)

  it("the loss must be one number", function()
    expect(function() pl.grad(function(p) return p*2 end)(pl.ones(3)) end, "{3}", "sum it")
    expect(function() pl.grad(function() end)(pl.ones(3)) end, "nil")
    expect(function() pl.minimize(function(p) return p*2 end, pl.ones(3)) end, "{3}")
  end)

  it("a NaN at the start names the op and the line", function()
    local line = debug.getinfo(1, "l").currentline + 2
    local text = message(function()
      pl.minimize(function(p) local r = pl.log(p.b)
        return r^2 end, {b = -1})
    end)
    assert.is_truthy(text:find("log at ", 1, true), text)
    assert.is_truthy(text:find(("errors_spec.lua:%d"):format(line), 1, true), text)
  end)

  it("stale handles say what to do", function()
    local kept
    pl.grad(function(p) kept = p*2; return pl.sum(kept) end)(pl.ones(3))
    expect(function() local _ = kept + 1 end, "detach", "pl.constant")
    local copy
    pl.grad(function(p) copy = (p*2):detach(); return pl.sum(p) end)(pl.ones(3))
    assert.are.equal(2, copy:item(1))
  end)

  it("singular matrices name the row", function()
    local A = pl.sparse.triplets({1, 1, 3}, {1, 2, 3}, {1, 1, 1}, 3)
    expect(function() A:solve(pl.ones(3)) end, "singular at row 2")
    local B = pl.sparse.diags({-1, 2, -1}, {-1, 0, 1}, 3):dense():at(1, 1):set(1):at(3, 3):set(1)
    assert.are.equal(1, B:item(1, 1))
    expect(function() pl.sparse.diags({1, 0}, {0, 1}, 3):solve(pl.ones(4)) end, "{4}", "{3, 3}")
  end)

  it("triplets out of range", function()
    expect(function() pl.sparse.triplets({1, 4}, {1, 1}, {1, 1}, 3) end, "row 4 (entry 2) is out of range 1 to 3")
    expect(function() pl.sparse.triplets({1, 2}, {1, 0}, {1, 1}, 3) end, "column 0 (entry 2)")
    expect(function() pl.sparse.triplets({1, 2}, {1}, {1, 1}, 3) end, "2 row and 1 column")
    expect(function() local _ = pl.ones(3)*pl.sparse.eye(3) end, "sparse")
    expect(function() local _ = pl.sparse.eye(3) + 1 end, "sum of")
    expect(function() local _ = pl.sparse.eye(3)*pl.sparse.eye(4) end, "{3, 3} and {4, 4}")
  end)

  it("the budget", function()
    local old = core.memory().budget
    core.set_budget(core.memory().used + 2^20)
    local text = message(function() pl.zeros(2^20) end)
    core.set_budget(old)
    assert.is_truthy(text:find("out of memory", 1, true))
    assert.are.equal(0, pl.zeros(2^20):item(1))
  end)

  it("a buffer written after a recording read it", function()
    local b = pl.buffer{8}
    b:fill(2)
    expect(function()
      pl.grad(function(p)
        local s = pl.sum(p*b)
        b[1] = 5
        return s
      end)(pl.ones(8))
    end, "buffer was written")
    local t = b:tensor()
    b[2] = 7
    expect(function() local _ = t + 1 end, "buffer was written")
    assert.are.equal(7, (b + 0):item(2))
  end)

  it("a parameter captured directly while its tree is active", function()
    local params = {b = pl.ones(3)}
    expect(function() pl.grad(function(p) return pl.sum(p.b*params.b) end)(params) end, "parameter b", "argument")
    assert.are.equal(1, pl.grad(function(p) return pl.sum(p.b*params.b:detach()) end)(params).b:item(1))
  end)

  it("trees name the path", function()
    local loop = {}
    loop.a = {loop}
    local f = function() return 0 end
    expect(function() pl.grad(f)(loop) end, "contains itself at a[1]")
    expect(function() pl.grad(f){a = {1, nil, 3}} end, "hole")
    expect(function() pl.grad(f){[true] = 1} end, "key of type boolean")
    expect(function() pl.grad(f){a = "x"} end, "string at a")
    expect(function() pl.grad(f){a = pl.arange(1, 3, {dtype = "i64"})} end, "i64")
    expect(function() pl.minimize(f, {a = 1}, {bounds = {b = {0, 1}}}) end, "no such parameter")
    expect(function() pl.minimize(f, {a = 1}, {bounds = {a = 3}}) end, "{lo, hi}")
    expect(function() pl.minimize(f, {a = 1}, {bounds = {a = {2, 1}}}) end, "bounds of variable 1")
  end)

  it("a tail call names the function", function()
    local ok, text = pcall(function()
      pl.grad(function(p) return pl.sum(p + pl.ones(7)) end)(pl.ones(3))
    end)
    assert.is_false(ok)
    assert.is_truthy(text:find("{3} and {7}", 1, true))
    ok, text = pcall(function()
      local g = pl.grad(function(p) return pl.reshape(p, 99) end)(pl.ones(3))
      return g
    end)
    assert.is_false(ok)
    assert.is_truthy(text:find("tail call of the function at", 1, true), text)
  end)

  it("an error inside the function passes through unchanged", function()
    local thrown = {}
    local ok, caught = pcall(pl.grad(function() error(thrown) end), pl.ones(2))
    assert.is_false(ok)
    assert.are.equal(thrown, caught)
    assert.is_false(core.recording())
  end)

  it("files", function()
    expect(function() pl.io.load("no_such_file.csv") end, "no_such_file.csv")
    expect(function() pl.io.load("file.xyz") end, ".npy or .csv")
    local name = os.tmpname() .. ".csv"
    local file = io.open(name, "w")
    file:write("a,b\n1,2\n3,x\n")
    file:close()
    expect(function() pl.io.load(name) end, name .. ":3", "'x' in column b")
    os.remove(name)
  end)
end)
