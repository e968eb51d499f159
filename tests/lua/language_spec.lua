-- The language: subscripts, constructors, dtypes, printing, trees, files, random numbers.
local pl = require "perilune"

local function same(t, expected)
  local got = t:totable()
  assert.are.same(expected, got)
end

describe("subscripts", function()
  local x = pl.arange(1, 12):reshape(3, 4)

  it("numbers, ranges, lists", function()
    same(x[2], {5, 6, 7, 8})
    same(x[-1], {9, 10, 11, 12})
    assert.are.equal(7, x(2, 3):item())
    assert.are.equal(0, x(2, 3).rank)
    same(x(":", 2), {2, 6, 10})
    same(x("2:", {1, 4, 3}), {{5, 8}, {9, 12}})
    same(x["3:1:-2"], {{9, 10, 11, 12}, {1, 2, 3, 4}})
    same(x(":", "-2:"), {{3, 4}, {7, 8}, {11, 12}})
    same(x[{2, 3}], {{5, 6, 7, 8}, {9, 10, 11, 12}})
    same(pl.arange(1, 10)["2:-2:3"], {2, 5, 8})
    assert.are.same({0, 4}, x["2:1"].shape)
    same(pl.arange(1, 100)[{5, -5, 5}][{-2, -1}], {90, 95})
  end)

  it("index tensors pair up, ix makes products", function()
    local i, j = pl.tensor{1, 3}, pl.tensor{2, 4}
    same(x(i, j), {2, 12})
    same(x(pl.ix(i, j)), {{2, 4}, {10, 12}})
    same(x(":", j), {{2, 4}, {6, 8}, {10, 12}})
    same(x[pl.tensor{{1, 1}, {2, 3}}](":", ":", 1), {{1, 1}, {5, 9}})
    local y = pl.arange(1, 24):reshape(2, 3, 4)
    same(y(pl.tensor{1, 2}, ":", pl.tensor{1, 4}), {{1, 5, 9}, {16, 20, 24}}) -- separated: in front, as NumPy
    same(y(":", pl.tensor{1, 3}, pl.tensor{1, 4}), {{1, 12}, {13, 24}})
  end)

  it("masks", function()
    same(x[x:gt(9)], {10, 11, 12})
    same(x(pl.tensor{true, false, true}, 1), {1, 9})
  end)

  it("at", function()
    same(x:at(1, ":"):set(0)[1], {0, 0, 0, 0})
    same(x:at(":", 1):add(pl.tensor{1, 2, 3})(":", 1), {2, 7, 12})
    same(pl.zeros(3):at(pl.tensor{1, 1, 3}):add(pl.tensor{1, 2, 4}), {3, 0, 4})
    same(pl.zeros(3):at(pl.tensor{1, 1, 3}):set(pl.tensor{1, 2, 4}), {2, 0, 4})
    same(x:at(x:gt(2)):set(0)[1], {1, 2, 0, 0})
    same(x:at(1, {2, 3}):mul(10)[1], {1, 20, 30, 4})
    same(x:at(1, ":"):max(pl.tensor{0, 9, 0, 9})[1], {1, 9, 3, 9})
    same(x:at(x:gt(2)):min(2.5)[1], {1, 2, 2.5, 2.5})
    local twice = pl.tensor{3, 1, 3, 3}
    same(pl.tensor{5, 6, 7}:at(twice):mul(pl.tensor{2, 3, 4, 5}), {15, 6, 280})
    same(pl.tensor{5, 6, 7}:at(twice):max(pl.tensor{2, 3, 40, 5}), {5, 6, 40})
    same(pl.tensor{5, 6, 7}:at(twice):min(pl.tensor{2, 9, 4, 5}), {5, 6, 2})
    local function changed(p) return pl.sum(p.x:at(twice):mul(p.v)^2) + pl.sum(p.x:at(pl.tensor{2, 2, 1, 3}):max(1.5*p.v)^3) end
    pl.check_grad(changed, {x = pl.tensor{1, 2, 3}, v = pl.tensor{2, 3, 4, 5}})
    same(pl.zeros(2, 2):at(pl.ix(pl.tensor{1, 2}, pl.tensor{2})):set(1), {{0, 1}, {0, 1}})
    local g = pl.grad(function(p) return pl.sum(x:at(2, {2, 3}):set(p)^2) end)(pl.tensor{1, 5})
    same(g, {2, 10})
  end)

  it("differentiates subscripts", function()
    local g = pl.grad(function(p) return pl.sum(p(pl.tensor{1, 1, 2}, pl.tensor{1, 1, 4})^2) + 3*pl.sum(p["2:"]) end)(x)
    same(g, {{4, 0, 0, 0}, {3, 3, 3, 19}, {3, 3, 3, 3}})
  end)

  it("a loop over slices costs n, not n^2", function()
    local function cost(n)
      local v, best = pl.ones(n), math.huge
      for _ = 1, 3 do
        local t = os.clock()
        pl.grad(function(p) local s = 0; for i = 1, n do s = s + p[i]^2 end; return s end)(v)
        best = math.min(best, os.clock() - t)
      end
      return best
    end
    cost(100)
    assert.is_true(cost(8000) < 16*cost(1000))
  end)
end)

describe("numbers", function()
  it("dtypes", function()
    assert.are.equal("f64", pl.arange(1, 3).dtype)
    assert.are.equal("i64", pl.arange(1, 3, {dtype = "i64"}).dtype)
    local f32, i64 = pl.ones{2, dtype = "f32"}, pl.tensor({1, 2}, {dtype = "i64"})
    assert.are.equal("f32", (f32*2.5).dtype)
    assert.are.equal("i64", (i64*2).dtype)
    assert.are.equal("f64", (i64*2.5).dtype)
    assert.are.equal("f64", (i64/2).dtype)
    assert.are.equal("i64", (i64^2).dtype)
    assert.are.equal("f64", (f32 + pl.ones(2)).dtype)
    assert.are.equal("bool", i64:gt(1).dtype)
    assert.are.equal(2, pl.sum(pl.tensor{true, true, false}):item())
    assert.are.equal("f32", pl.with({dtype = "f32"}, function() return pl.zeros(3).dtype end))
    assert.are.equal("f64", pl.zeros(3).dtype)
  end)

  it("constructors", function()
    same(pl.linspace(0, 1, 5), {0, 0.25, 0.5, 0.75, 1})
    same(pl.arange(0, 1, 0.25), {0, 0.25, 0.5, 0.75, 1})
    assert.are.equal(11, #pl.arange(0, 1, 0.1))
    same(pl.arange(3, 1, -1), {3, 2, 1})
    same(pl.full({2, 2}, 7), {{7, 7}, {7, 7}})
    same(pl.eye(2, 3), {{1, 0, 0}, {0, 1, 0}})
    assert.are.same({2, 0}, pl.zeros(2, 0).shape)
    local X, Y = pl.meshgrid(pl.arange(1, 2), pl.arange(1, 3))
    same(X, {{1, 1, 1}, {2, 2, 2}})
    same(Y, {{1, 2, 3}, {1, 2, 3}})
  end)

  it("reductions, scans, joins", function()
    local x = pl.arange(1, 6):reshape(2, 3)
    same(x:sum(1), {5, 7, 9})
    same(x:mean(2, true), {{2}, {5}})
    same(x:max{axis = -1}, {3, 6})
    assert.are.equal(720, x:prod():item())
    assert.is_true(math.abs(pl.norm(x):item() - math.sqrt(91)) < 1e-14)
    same(pl.cumsum(x, 2), {{1, 3, 6}, {4, 9, 15}})
    same(pl.flip(pl.arange(1, 3)), {3, 2, 1})
    same(pl.diff(pl.tensor{1, 4, 9, 16}, 2), {2, 2})
    same(pl.pad(pl.ones(2), 1), {0, 1, 1, 0})
    same(pl.pad(pl.ones(1, 1), {0, 1, 2, 0}, {value = 5}), {{5, 5, 1}, {5, 5, 5}})
    same(pl.concat({pl.ones(2), 2*pl.ones(1)}), {1, 1, 2})
    same(pl.stack({pl.ones(2), pl.zeros(2)}, 2), {{1, 0}, {1, 0}})
    same(pl.clip(pl.arange(1, 4), 2, 3), {2, 2, 3, 3})
    assert.are.equal(32, pl.dot(pl.tensor{1, 2, 3}, pl.tensor{4, 5, 6}):item())
    same(x.T, {{1, 4}, {2, 5}, {3, 6}})
    same(pl.ones(2):expand(3), {{1, 1, 1}, {1, 1, 1}})
    local n, m = x:size()
    assert.are.same({2, 3, 2}, {n, m, #x})
  end)
end)

describe("printing", function()
  it("shows small tensors whole and large ones by their corners", function()
    assert.are.equal("{1, 1, 1}\nf64 {3}", tostring(pl.ones(3)))
    assert.are.equal("0.1", tostring(pl.tensor(0.1)))
    assert.are.equal("{{1, 0},\n {0, 1}}\nf64 {2, 2}", tostring(pl.eye(2)))
    assert.are.equal("{1, 2, 3, ..., 98, 99, 100}", (tostring(pl.arange(1, 100)):match("^[^\n]*"):gsub(" +", " "):gsub("{ ", "{")))
    assert.are.equal("{}\nf64 {0}", tostring(pl.zeros(0)))
    assert.are.equal("{true, false}\nbool {2}", (tostring(pl.tensor{true, false}):gsub("{ ", "{")))
  end)
end)

describe("masks and help", function()
  it("all and any", function()
    local m = pl.tensor{{1, 2}, {3, 0}}:gt(0)
    assert.are.same({false, true, true, false}, {pl.all(m), pl.any(m), pl.all(pl.zeros(0):gt(0)), pl.any(pl.zeros(0):gt(0))})
    assert.are.same({true, false}, pl.all(m, 2):totable())
    assert.are.same({true, true}, pl.any(m, {axis = 1}):totable())
    assert.is_false(pcall(pl.all, pl.ones(2)))
  end)

  it("there is help for all there is", function()
    local text, out = {}, print
    _G.print = function(s) text[#text + 1] = s end
    local ok, message = pcall(function()
      for name, f in pairs(pl) do
        local meta = getmetatable(f)
        if type(f) == "function" or (type(f) == "table" and meta and meta.__call) then pl.help(name) end
      end
      text = {}
      pl.help "scan"
      pl.help "sparse.diags"
    end)
    _G.print = out
    assert.is_true(ok, message)
    assert.is_truthy(text[1]:find("pl.scan(step, state, xs, options)", 1, true) and text[1]:find("first axis", 1, true))
    assert.is_truthy(text[2]:find("main diagonal", 1, true))
    assert.is_false(pcall(pl.help, "nothing"))
  end)
end)

describe("trees", function()
  it("are ordered, shared tensors are one variable, modules keep their metatable", function()
    local t = pl.ones(2)
    local Module = {}
    Module.__index = Module
    local tree = {3, b = {t, t}, a = setmetatable({w = pl.ones(2), size = 7}, Module)}
    local leaves = pl.tree.leaves(tree)
    assert.are.same({"[1]", "a.w", "b[1]"}, {leaves[1].path, leaves[2].path, leaves[3].path})
    assert.are.equal(3, #leaves)
    local g = pl.grad(function(p)
      assert.are.equal(Module, getmetatable(p.a))
      assert.are.equal(7, p.a.size)
      return p[1]^2 + pl.sum(p.b[1]*p.b[2]) + pl.sum(p.a.w)
    end)(tree)
    assert.are.equal(6, g[1])
    same(g.b[1], {2, 2})
    same(g.a.w, {1, 1})
  end)
end)

describe("files and random numbers", function()
  it("round trips", function()
    local name = os.tmpname()
    os.remove(name)
    for _, dtype in ipairs{"f64", "f32", "i64", "bool"} do
      local x = pl.rng(1):integers(0, 1, 3, 4):to(dtype)
      pl.io.save(name .. ".npy", x)
      local y = pl.io.load(name .. ".npy")
      assert.are.equal(dtype, y.dtype)
      assert.are.same(x:totable(), y:totable())
    end
    pl.io.save(name .. ".npy", pl.tensor(2.5))
    assert.are.equal(2.5, pl.io.load(name .. ".npy"):item())
    pl.io.save(name .. ".csv", {t = pl.arange(1, 3), h = {0.1, 0.2, 0.3}})
    local back = pl.io.load(name .. ".csv")
    assert.are.same({"h", "t"}, back.columns)
    same(back.h, {0.1, 0.2, 0.3})
    os.remove(name .. ".npy")
    os.remove(name .. ".csv")
  end)

  it("random numbers are seeded, and distributed as they say", function()
    local a, b = pl.rng(5), pl.rng(5)
    assert.are.same(a:normal(7):totable(), b:normal(7):totable())
    assert.are_not.same(a:normal(7):totable(), a:normal(7):totable())
    local n = 200000
    local z, u, k = a:normal(n), a:uniform(n, {lo = -1, hi = 3}), a:integers(1, 6, n)
    assert.is_true(math.abs(pl.mean(z):item()) < 4/math.sqrt(n))
    assert.is_true(math.abs(pl.mean(z^2):item() - 1) < 6/math.sqrt(n))
    assert.is_true(math.abs(pl.mean(z^4):item() - 3) < 0.1)
    assert.is_true(math.abs(pl.mean(u):item() - 1) < 0.02 and pl.min(u):item() > -1 and pl.max(u):item() < 3)
    for face = 1, 6 do assert.is_true(math.abs(pl.sum(k:eq(face)):item()/n - 1/6) < 0.005) end
    local s, t = unpack(a:split(2))
    assert.are_not.same(s:uniform(3):totable(), t:uniform(3):totable())
    assert.are.same({"i64", 2, 3}, {a:integers(1, 2, 2, 3).dtype, a:integers(1, 2, 2, 3):size()})
  end)

  it("buffers", function()
    local b = pl.buffer{2, 3}
    for i = 1, 2 do for j = 1, 3 do b:set(i, j, 10*i + j) end end
    same(b:tensor(), {{11, 12, 13}, {21, 22, 23}})
    same(b*2, {{22, 24, 26}, {42, 44, 46}})
    assert.are.equal(23, b(2, 3))
    local v = pl.buffer(4)
    for i = 1, 4 do v[i] = i end
    assert.are.equal(4, #v)
    assert.are.equal(10, pl.sum(v):item())
  end)
end)
