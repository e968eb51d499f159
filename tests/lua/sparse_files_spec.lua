-- Matrices in files of MatrixMarket: what is written and read, and files that lie.
local pl = require "perilune"
local sparse = pl.sparse

local fails = require("tests.expect").fails

describe("MatrixMarket", function()
  local path = os.tmpname()
  teardown(function() os.remove(path) end)
  local function write(text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end
  local function read(text)
    write(text)
    return sparse.load(path)
  end
  local function table_of(x) return (sparse.is_sparse(x) and x:dense() or x):totable() end
  local head = "%%MatrixMarket matrix "

  it("gives back what was saved, bit for bit", function()
    local rng = pl.rng(3)
    local A = sparse.triplets(rng:integers(1, 40, 90), rng:integers(1, 30, 90), rng:normal(90), 40, 30)
    sparse.save(path, A)
    local B = sparse.load(path)
    assert.are.same({40, 30}, B.shape)
    assert.are.equal(A.nnz, B.nnz)
    assert.are.same(A.values:totable(), B.values:totable())
    assert.are.same(A:dense():totable(), B:dense():totable())
    sparse.save(path, A.T:astype("f32"))
    assert.are.same(A.T:astype("f32"):dense():totable(), sparse.load(path):astype("f32"):dense():totable())
    local t = rng:normal(5, 3)
    sparse.save(path, t)
    assert.are.same(t:totable(), sparse.load(path):totable())
  end)

  it("kinds and symmetries", function()
    assert.are.same({{1.5, 0}, {0, -2}, {3, 0}}, table_of(read(head .. "coordinate real general\n% text\n\n3 2 3\n1 1 1.5\n2 2 -2e0\n 3\t1 3 \n")))
    assert.are.same({{0, 4}, {0, 0}}, table_of(read(head .. "coordinate integer general\n2 2 1\n1 2 4\n")))
    assert.are.same({{1, 0}, {1, 1}}, table_of(read(head .. "coordinate pattern general\n2 2 3\n1 1\n2 1\n2 2")))
    assert.are.same({{1, 5}, {5, 0}}, table_of(read(head .. "coordinate real symmetric\n2 2 2\n1 1 1\n2 1 5\n")))
    assert.are.same({{0, -5}, {5, 0}}, table_of(read(head .. "coordinate real skew-symmetric\n2 2 1\n2 1 5\n")))
    assert.are.same({{1, 3}, {2, 4}}, table_of(read("%%matrixmarket MATRIX Array REAL General\r\n2 2\r\n1\r\n2\r\n3\r\n4\r\n")))
    assert.are.same({{1, 2}, {2, 3}}, table_of(read(head .. "array real symmetric\n2 2\n1\n2\n3\n")))
    assert.are.same({{0, -7}, {7, 0}}, table_of(read(head .. "array real skew-symmetric\n2 2\n7\n")))
    assert.are.same({3, 4}, read(head .. "coordinate real general\n3 4 0\n").shape)
    assert.are.equal(5, read(head .. "coordinate real general\n1 1 2\n1 1 2\n1 1 3\n").values:item()) -- duplicates add up
  end)

  it("files that lie", function()
    local real, array = head .. "coordinate real general\n", head .. "array real general\n"
    local lies = {
      {"", "is empty"}, {"hello\n1 1 1\n", "line 1: is no header"}, {head .. "coordinate real\n", "four words"}, {head .. "coordinate real general more\n", "four words"},
      {"%%MatrixMarket vector coordinate real general\n", "holds a vector"}, {head .. "list real general\n", '"list"'},
      {head .. "coordinate complex general\n", "complex"}, {head .. "coordinate quaternion general\n", '"quaternion"'},
      {head .. "coordinate real hermitian\n", "hermitian"}, {head .. "coordinate real triangular\n", '"triangular"'},
      {head .. "array pattern general\n", "cannot be a pattern"}, {head .. "coordinate pattern skew-symmetric\n", "skew-symmetric"},
      {real, "ends before its sizes"}, {real .. "2 2\n", "3 sizes"}, {real .. "2 x 1\n", "3 sizes"}, {real .. "2 2 1 1\n", "more than 3 sizes"},
      {real .. "-2 2 1\n1 1 1\n", "-2 is no number of rows"}, {real .. "2 3000000000 1\n", "3000000000 is no number of columns"},
      {real .. "2 2 99999999999999999999\n", "3 sizes"}, {real .. "2 2 -1\n", "-1 is no number of entries"},
      {real .. "2 2 1000000000000\n1 1 1\n", "ends after 1 of 1000000000000"}, {real .. "2 2 1\n1 1 1\n2 2 2\n", "more than the 1 entries"},
      {real .. "2 2 1\n3 1 1\n", "line 3: entry (3, 1) is outside of a matrix {2, 2}"}, {real .. "2 2 1\n1 0 1\n", "entry (1, 0)"},
      {real .. "2 2 1\n1 1.5 1\n", "whole numbers"}, {real .. "2 2 1\n1 1 one\n", "no number"}, {real .. "2 2 1\n1 1\n", "no number"},
      {real .. "2 2 1\n1 1 1 1\n", "more than an entry"}, {head .. "coordinate integer general\n1 1 1\n1 1 1.5\n", "no whole number"},
      {head .. "coordinate real symmetric\n2 2 1\n1 2 1\n", "not on or below"}, {head .. "coordinate real skew-symmetric\n2 2 1\n1 1 1\n", "not below"},
      {head .. "coordinate real symmetric\n2 3 0\n", "square"}, {array .. "2 2\n1\n2\n3\n", "within column 2 of 2"}, {array .. "1 1\n1\n2\n", "more numbers"},
      {array .. "1 1\n1 2\n", "one number"}, {array .. "1000000 1000000\n1\n", "within column 1"}, {real .. ("1"):rep(2000) .. "\n", "1,024"},
    }
    for _, lie in ipairs(lies) do
      write(lie[1])
      fails(lie[2], sparse.load, path)
    end
    fails("cannot be opened", sparse.load, "/nowhere/at/all.mtx")
    fails("cannot be written", sparse.save, "/nowhere/at/all.mtx", pl.ones(2, 2))
    fails("a matrix is needed", sparse.save, path, pl.ones(2))
    fails("f64 or f32 is saved", sparse.save, path, pl.ones(2, 2):to("i64"))
    fails("needs a path", sparse.load, nil)
  end)

  it("changed bytes give a matrix or an error", function()
    local text = head .. "coordinate real symmetric\n% made by hand\n4 4 5\n1 1 1.5\n2 1 -2\n3 3 4e1\n4 2 1\n4 4 9\n"
    local dense = head .. "array integer general\n2 3\n1\n2\n3\n4\n5\n6\n"
    local rng = pl.rng(11)
    local bytes = {"0", "9", "-", " ", "\n", "x", "%", ".", "e", "\0", "\255", ""}
    local errors = 0
    for _, whole in ipairs{text, dense} do
      for k = 1, #whole do
        for _ = 1, 2 do
          write(whole:sub(1, k - 1) .. bytes[rng:integers(1, #bytes, 1):item()] .. whole:sub(k + 1))
          local ok, message = pcall(sparse.load, path)
          if not ok then
            errors = errors + 1
            assert.is_truthy(tostring(message):find(path, 1, true), tostring(message))
          end
        end
        write(whole:sub(1, k - 1))
        local ok = pcall(sparse.load, path)
        assert.is_true(not ok or k >= #whole - 1)
      end
    end
    assert.is_true(errors > 200)
    assert.are.equal(2, (pl.ones(2) + 1):item(2)) -- the session goes on
  end)
end)
