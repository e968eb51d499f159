-- Repeating, shifting, triangles, diagonals, products of all pairs, einsum: against entries worked out one by one.
local pl = require "perilune"

local function same(t, want) assert.are.same(want, t:totable()) end
local fails = require("tests.expect").fails

describe("arrange", function()
  local x = pl.tensor{{1, 2, 3}, {4, 5, 6}}
  it("tile, repeat_interleave, roll, expand", function()
    same(pl.tile(pl.tensor{1, 2}, {3}), {1, 2, 1, 2, 1, 2})
    same(pl.tile(pl.tensor{1, 2}, {2, 1}), {{1, 2}, {1, 2}})
    same(pl.tile(x, {2}), {{1, 2, 3, 1, 2, 3}, {4, 5, 6, 4, 5, 6}})
    same(pl.tile(pl.tensor{{1}, {2}}, {2, 2}), {{1, 1}, {2, 2}, {1, 1}, {2, 2}})
    same(pl.repeat_interleave(x, 2), {{1, 1, 2, 2, 3, 3}, {4, 4, 5, 5, 6, 6}})
    same(pl.repeat_interleave(x, {n = 2, axis = 1}), {{1, 2, 3}, {1, 2, 3}, {4, 5, 6}, {4, 5, 6}})
    same(pl.roll(x, 1), {{3, 1, 2}, {6, 4, 5}})
    same(pl.roll(x, -4), {{2, 3, 1}, {5, 6, 4}})
    same(pl.roll(x, {shift = 3, axis = 1}), {{4, 5, 6}, {1, 2, 3}})
    same(pl.tensor{1, 2}:expand(2), {{1, 1}, {2, 2}})
    same(pl.roll(pl.zeros(0), 3), {})
    fails("no number of times", pl.tile, x, {-1})
    fails("axis", pl.roll, pl.tensor(1), 1)
  end)

  it("triangles and diagonals", function()
    local m = pl.arange(1, 12):reshape(3, 4)
    same(pl.tril(m), {{1, 0, 0, 0}, {5, 6, 0, 0}, {9, 10, 11, 0}})
    same(pl.triu(m, 1), {{0, 2, 3, 4}, {0, 0, 7, 8}, {0, 0, 0, 12}})
    same(pl.tril(m, -1), {{0, 0, 0, 0}, {5, 0, 0, 0}, {9, 10, 0, 0}})
    for k = -4, 5 do
      local want = {}
      for i = 1, 3 do if i + k >= 1 and i + k <= 4 then want[#want + 1] = m:item(i, i + k) end end
      same(pl.diagonal(m, k), want)
      if #want > 0 then same(pl.diagonal(pl.diag(pl.tensor(want), k), k), want) end
    end
    same(pl.diag(pl.tensor{1, 2}, -1), {{0, 0, 0}, {1, 0, 0}, {0, 2, 0}})
    same(pl.diag(m), {1, 6, 11})
    assert.are.equal(18, pl.trace(m):item())
    same(pl.trace(pl.stack{m, 2*m}), {18, 36})
    same(pl.tril(pl.stack{m, m})(2, ":", ":"), pl.tril(m):totable())
    fails("last two axes", pl.trace, pl.ones(3))
    fails("a vector, or a matrix", pl.diag, pl.tensor(1))
  end)

  it("outer, kron, take, squeeze, unsqueeze, rms, split", function()
    same(pl.outer(pl.tensor{1, 2}, pl.tensor{3, 4, 5}), {{3, 4, 5}, {6, 8, 10}})
    same(pl.kron(pl.tensor{{1, 2}}, pl.tensor{{1, 10}, {0, 1}}), {{1, 10, 2, 20}, {0, 1, 0, 2}})
    same(pl.take(x, pl.tensor({6, 1}, {dtype = "i64"})), {6, 1})
    assert.are.same({1, 2, 3}, pl.unsqueeze(x, 1).shape)
    assert.are.same({2, 3, 1}, pl.unsqueeze(x, -1).shape)
    assert.are.same({2, 3}, pl.squeeze(x:reshape(1, 2, 1, 3)).shape)
    assert.are.same({1, 2, 3}, pl.squeeze(x:reshape(1, 2, 1, 3), 3).shape)
    fails("has 2 elements, not one", pl.squeeze, x, 1)
    assert.is_true(math.abs(pl.rms(pl.tensor{3, 4, 0, 0}):item() - 2.5) < 1e-15)
    assert.is_true(math.abs(pl.rms(pl.tensor{{3, 3}, {0, 0}}, 2):item(1) - 3) < 1e-15)
    local a, b = unpack(pl.split(x, {1, 2}, {axis = 2}))
    same(a, {{1}, {4}})
    same(b, {{2, 3}, {5, 6}})
    same(pl.split(x, 2)[2], {{4, 5, 6}})
    fails("equal parts", pl.split, x, 2, {axis = 2})
    fails("add up to 4", pl.split, x, {4}, {axis = 2})
  end)

  it("einsum agrees with loops, and is differentiable", function()
    local rng = pl.rng(4)
    local size = {i = 2, j = 3, k = 4, b = 2, l = 3}
    -- sums over all letters, entry by entry
    local function direct(spec, tensors)
      local inputs, output = spec:match("^(.-)%->(.*)$")
      local lists, all, seen = {}, {}, {}
      for letters in (inputs .. ","):gmatch("(%a*),") do lists[#lists + 1] = letters end
      for letter in (output .. inputs):gmatch("%a") do
        if not seen[letter] then seen[letter] = true; all[#all + 1] = letter end
      end
      local out, at = {}, {}
      local function walk(d)
        if d > #all then
          local value = 1
          for t, letters in ipairs(lists) do
            local place = {}
            for letter in letters:gmatch("%a") do place[#place + 1] = at[letter] end
            value = value*(#place > 0 and tensors[t]:item(unpack(place)) or tensors[t]:item())
          end
          local key = {}
          for letter in output:gmatch("%a") do key[#key + 1] = at[letter] end
          key = table.concat(key, ",")
          out[key] = (out[key] or 0) + value
          return
        end
        for v = 1, size[all[d]] do at[all[d]] = v; walk(d + 1) end
      end
      walk(1)
      return out
    end
    for _, spec in ipairs{"ij,jk->ik", "ij,jk->ki", "bij,bjk->bik", "ij,ij->ij", "ij,ij->", "ij->ji", "ij->j", "ij->", "ii->i", "ii->", "i,j->ij",
      "bij,bj->bi", "ij,jk,kl->il", "iji->j", "bij,kj->bik", "i,i,i->i", "ij,k->k", ",ij->ij", "bi,bj,bk->ijk"} do
      local tensors = {}
      for letters in (spec:match("^(.-)%->") .. ","):gmatch("(%a*),") do
        local shape = {}
        for letter in letters:gmatch("%a") do shape[#shape + 1] = size[letter] end
        tensors[#tensors + 1] = #shape > 0 and rng:normal(shape) or pl.tensor(1.7)
      end
      local got, want = pl.einsum(spec, unpack(tensors)), direct(spec, tensors)
      for key, value in pairs(want) do
        local place = {}
        for v in key:gmatch("%d+") do place[#place + 1] = tonumber(v) end
        local entry = #place > 0 and got:item(unpack(place)) or got:item()
        assert.is_true(math.abs(entry - value) < 1e-13*(1 + math.abs(value)), spec)
      end
      pl.check_grad(function(p) return pl.sum(pl.einsum(spec, unpack(p))^2) end, tensors)
    end
    same(pl.einsum("ji", x), {{1, 4}, {2, 5}, {3, 6}}) -- alphabetical, as NumPy's
    fails("has 2 entries in one place, 3 in another", pl.einsum, "ii->i", x)
    fails("is none of the tensors'", pl.einsum, "ij->k", x)
    fails("names 3", pl.einsum, "ijk->k", x)
    fails("is about 2 tensors, not 1", pl.einsum, "ij,jk->ik", x)
    fails("not understood", pl.einsum, "i...->i", x)
  end)
end)

describe("places", function()
  it("nonzero finds them, put writes there, the last of equal ones stays", function()
    local x = pl.tensor{{1, 0}, {0, 3}}
    assert.are.same({1, 4}, pl.nonzero(x:gt(0)):totable())
    local at = pl.tensor({2, 2, 1}, {dtype = "i64"})
    assert.are.same({9, 8, 3}, pl.put(pl.tensor{1, 2, 3}, at, pl.tensor{7, 8, 9}):totable())
    local second = pl.tensor({2}, {dtype = "i64"})
    local g = pl.grad(function(v) return pl.sum(pl.put(v, second, pl.tensor{5})) end)(pl.tensor{4, 4})
    assert.are.same({1, 0}, g:totable())
    local ok, message = pcall(pl.put, pl.ones(3), pl.tensor({4}, {dtype = "i64"}), pl.ones(1))
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("4", 1, true))
  end)
end)

describe("changed places", function()
  local function index(...) return pl.tensor({...}, {dtype = "i64"}) end
  local x = pl.tensor{2, 3, 5, 7}
  it("mul multiplies by all, max and min take the extreme, in any way of naming places", function()
    same(x:at(2):mul(10), {2, 30, 5, 7})
    same(x:at("2:3"):mul(pl.tensor{10, 100}), {2, 30, 500, 7})
    same(x:at(index(1, 4, 1, 1)):mul(pl.tensor{2, 3, 4, 0.5}), {8, 3, 5, 21})
    same(x:at(x:gt(4)):mul(2), {2, 3, 10, 14})
    same(x:at(":"):max(4), {4, 4, 5, 7})
    same(x:at(index(1, 2, 1)):max(pl.tensor{1, 9, 6}), {6, 9, 5, 7})
    same(x:at(index(4, 4)):min(pl.tensor{6, 5}), {2, 3, 5, 5})
    same(x:at("3:4"):min(6), {2, 3, 5, 6})
    local m = pl.arange(1, 6):reshape(2, 3)
    same(m:at(pl.ix(index(1, 2), index(1, 3))):mul(10), {{10, 2, 30}, {40, 5, 60}})
    same(m:at(index(1, 1, 2), index(2, 2, 3)):mul(pl.tensor{10, 10, 2}), {{1, 200, 3}, {4, 5, 12}})
    same(m:at(2, index(3, 3)):max(pl.tensor{7, 8}), {{1, 2, 3}, {4, 5, 8}})
    same(pl.mul_at(m, index(1, 1), pl.tensor{{2, 3}, {4, 5}}, 2), {{6, 2, 3}, {80, 5, 6}})
    local i = index(2, 3):at(index(1, 1)):mul(index(2, 5))
    assert.are.equal("i64", i.dtype)
    same(i, {20, 3})
    same(x:at(index(2, 2)):mul(pl.tensor{2, 3}), pl.compile(function(v, k) return v:at(k):mul(pl.tensor{2, 3}) end)(x, index(2, 2)):totable())
  end)

  it("derivatives: of a product the other factors, zeros or not; of an extreme shared", function()
    local at = index(1, 1, 1, 2)
    local function f(v) return pl.sum(pl.tensor{1, 1}:at(at):mul(v)) end
    same(pl.grad(f)(pl.tensor{0, 3, 4, 5}), {12, 0, 0, 1})
    same(pl.hessian(f)(pl.tensor{0, 3, 4, 5}), {{0, 4, 3, 0}, {4, 0, 0, 0}, {3, 0, 0, 0}, {0, 0, 0, 0}})
    same(pl.hessian(f)(pl.tensor{0, 0, 4, 5}), {{0, 4, 0, 0}, {4, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}})
    local function g(v, w) return pl.sum(v:at(index(2, 2)):max(w)) end
    local gv, gw = pl.grad(g, {wrt = 1})(pl.tensor{1, 4}, pl.tensor{4, 2}), pl.grad(g, {wrt = 2})(pl.tensor{1, 4}, pl.tensor{4, 2})
    same(gv, {1, 0.5})
    same(gw, {0.5, 0})
  end)

  it("bad input", function()
    fails("mul_at: put: index 5 (entry 2) is out of range 1 to 4", pl.mul_at, x, index(1, 5), pl.ones(2))
    fails("max_at: index 0 (entry 1)", pl.max_at, x, index(0), pl.ones(1))
    fails("min_at: the selection has shape {2}, what goes into it {3}", pl.min_at, x, index(1, 2), pl.ones(3))
    fails("not known here", pl.compile(function(v) return pl.nonzero(v:gt(3)) end), x)
  end)
end)

describe("margins", function()
  local x = pl.tensor{1, 2, 3}
  it("wrap, reflect, edge, value", function()
    same(pl.pad(x, {1, 2}, 9), {9, 1, 2, 3, 9, 9})
    same(pl.pad_wrap(x, {3, 1}), {1, 2, 3, 1, 2, 3, 1})
    same(pl.pad_reflect(x, 2), {3, 2, 1, 2, 3, 2, 1})
    same(pl.pad_edge(x, {5, 1}), {1, 1, 1, 1, 1, 1, 2, 3, 3})
    local m = pl.tensor{{1, 2}, {3, 4}}
    same(pl.pad_wrap(m, 1), {{4, 3, 4, 3}, {2, 1, 2, 1}, {4, 3, 4, 3}, {2, 1, 2, 1}})
    same(pl.pad_reflect(m, {0, 1}), {{2, 1, 2, 1}, {4, 3, 4, 3}})
    same(pl.pad_edge(m, {1, 0, 0, 1}), {{1, 2, 2}, {1, 2, 2}, {3, 4, 4}})
    same(pl.grad(function(v) return pl.sum(pl.pad_edge(v, 2)) end)(x), {3, 1, 3})
  end)
  it("bad input", function()
    fails("pad_wrap: a margin of 4 is too wide for the 3 elements of axis 1", pl.pad_wrap, x, 4)
    fails("pad_reflect: a margin of 3 is too wide for the 3 elements of axis 1", pl.pad_reflect, x, 3)
    fails("pad_edge: a margin of 1 is too wide for the 0 elements of axis 1", pl.pad_edge, pl.zeros(0), 1)
    fails("pad_edge: widths of -1 and -1 on axis 1", pl.pad_edge, x, -1)
    fails("pad_edge: the width is one number", pl.pad_edge, x, {1, 2, 3})
  end)
end)
