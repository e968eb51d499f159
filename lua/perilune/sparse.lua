-- Sparse matrices: a pattern and a vector of values, which is a tensor like any other. Indices are 1-based. A.T is kept as what it
-- is the transpose of, until its entries are asked for: A.T*x needs none of them.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local operator = require "perilune.operator"
local S = core.sparse

local sparse = {}
local Matrix = {__name = "sparse matrix"}
local is_tensor = core.is_tensor

local function matrix(pattern, values) return setmetatable({pattern = pattern, values = values}, Matrix) end

local function is_matrix(x) return type(x) == "table" and getmetatable(x) == Matrix end
sparse.is_sparse = is_matrix

--- The matrix with the pattern of another one and these values, in the order of its entries (row by row).
---@param like any  a sparse matrix
---@param values any  a tensor {nnz}
---@return table
function sparse.with_values(like, values)
  local pattern = is_matrix(like) and like.pattern or like
  local m, n, nnz = S.size(pattern)
  if not is_tensor(values) or values.rank ~= 1 or values.count ~= nnz then
    core.fail(("with_values: a matrix {%d, %d} with %d entries needs a tensor of as many values, not %s"):format(m, n, nnz,
      is_tensor(values) and ("one of shape {%s}"):format(table.concat(values.shape, ", ")) or type(values)))
  end
  return matrix(pattern, values)
end

local function check(x, what)
  if not is_matrix(x) then core.fail(("%s needs a sparse matrix, not %s"):format(what, is_tensor(x) and "a dense tensor" or x == nil and "nil" or type(x))) end
  return x
end

-- Pattern and values.
local function parts(a)
  local of = rawget(a, "of")
  if of then return S.transpose(of.pattern, of.values) end
  return a.pattern, a.values
end

local function whole(n, what)
  if type(n) ~= "number" or n ~= math.floor(n) or n < 0 then core.fail(("%s must be a whole number, not %s"):format(what, tostring(n))) end
  return n
end

--- The matrix {m, n} with v[k] added at (i[k], j[k]).
---@param i any  row indices, a tensor or a list
---@param j any  column indices
---@param v any  values {#i}, or one number for all
---@return table
function sparse.triplets(i, j, v, m, n)
  return matrix(S.triplets(i, j, v, m, n or m))
end

--- Diagonals: values[k] (a number, or a tensor as long as that diagonal) at (i, i + offsets[k]).
---@param values table
---@param offsets table  0 the main diagonal, positive above it
---@param shape any  n, or {rows, columns}
---@return table
function sparse.diags(values, offsets, shape)
  if type(values) ~= "table" or type(offsets) ~= "table" then core.fail("diags needs a list of values and a list of offsets") end
  local m, n
  if type(shape) == "table" then m, n = shape[1], shape[2] else m, n = shape, shape end
  whole(m, "diags: the number of rows")
  whole(n, "diags: the number of columns")
  if #values ~= #offsets then core.fail(("diags: %d values for %d offsets"):format(#values, #offsets)) end
  local i, j, v = {}, {}, {}
  for k, offset in ipairs(offsets) do
    if type(offset) ~= "number" or offset ~= math.floor(offset) then core.fail("diags: offsets are whole numbers") end
    local first, last = math.max(1, 1 - offset), math.min(m, n - offset)
    local length = math.max(0, last - first + 1)
    local value = values[k]
    if is_tensor(value) and value.rank == 1 and value.count ~= length then
      core.fail(("diags: the diagonal with offset %d of a {%d, %d} matrix has %d entries, its values %d"):format(offset, m, n, length, value.count))
    elseif not is_tensor(value) and type(value) ~= "number" then
      core.fail(("diags: value %d is %s, not a number or a tensor"):format(k, value == nil and "nil" or type(value)))
    end
    if length > 0 then
      i[#i + 1] = core.arange(first, last)
      j[#j + 1] = core.arange(first + offset, last + offset)
      v[#v + 1] = core.broadcast_to(value, length)
    end
  end
  if #i == 0 then return sparse.triplets(core.zeros(0), core.zeros(0), core.zeros(0), m, n) end
  return sparse.triplets(core.concat(i), core.concat(j), core.concat(v), m, n)
end

--- The diagonal matrix of a vector.
---@return table
function sparse.diag(v)
  if not is_tensor(v) then v = core.tensor(v) end
  return sparse.diags({v}, {0}, #v)
end

--- Ones on the diagonal of {n, m}.
---@return table
function sparse.eye(n, m)
  return sparse.diags({1}, {0}, {n, m or n})
end

--- The sparse matrix of a dense one. Its entries are those above the tolerance in absolute value, which cannot be known while a
--- function is traced, or those of another sparse matrix. The derivative goes to the entries that were taken.
---@param t any  a tensor {m, n}
---@param options? table  {tolerance = 0} or {pattern = a sparse matrix}
---@return table
function sparse.from_dense(t, options)
  options = check_options(options, {tolerance = true, pattern = true}, "from_dense")
  if options.pattern ~= nil then return matrix(S.from_dense(t, check(options.pattern, "from_dense: pattern").pattern)) end
  local tolerance = options.tolerance or 0
  if type(tolerance) ~= "number" then core.fail(("from_dense: the tolerance is a number, not %s"):format(type(tolerance))) end
  return matrix(S.from_dense(t, tolerance))
end

--- The matrix of blocks, a list of rows: sparse.block{{A, B}, {0, C}}. A block that is 0 (or nil within a row) has the size that
--- those beside it say.
---@param rows table
---@return table
function sparse.block(rows)
  if type(rows) ~= "table" or is_matrix(rows) then core.fail("block needs a list of rows of blocks, {{A, B}, {C, D}}") end
  local m, n = #rows, 0
  for _, row in ipairs(rows) do
    if type(row) ~= "table" or is_matrix(row) then core.fail("block needs a list of rows of blocks, {{A, B}, {C, D}}") end
    for key in pairs(row) do n = type(key) == "number" and math.max(n, key) or n end
  end
  if m == 0 or n == 0 then core.fail("block: there are no blocks") end
  local patterns, values = {}, {}
  for i = 1, m do
    for j = 1, n do
      local block, at = rows[i][j], (i - 1)*n + j
      if block == nil or block == 0 then
        patterns[at], values[at] = false, false
      else
        check(block, ("block (%d, %d)"):format(i, j))
        patterns[at], values[at] = parts(block)
      end
    end
  end
  return matrix(S.block(m, n, patterns, values))
end

--- Matrices one below another (axis 1, the default) or side by side (axis 2).
---@param list table
---@param axis? number
---@return table
function sparse.concat(list, axis)
  if type(list) ~= "table" or is_matrix(list) or #list == 0 then core.fail("concat needs a list of sparse matrices") end
  if axis == -1 or axis == -2 then axis = axis + 3 end
  if axis ~= nil and axis ~= 1 and axis ~= 2 then core.fail(("concat: a sparse matrix has axes 1 and 2, not %s"):format(tostring(axis))) end
  local rows = {}
  for k, a in ipairs(list) do
    check(a, ("concat: matrix %d"):format(k))
    rows[k] = {a}
  end
  return sparse.block(axis == 2 and {list} or rows)
end

--- Matrices along the diagonal, zeros elsewhere.
---@param list table
---@return table
function sparse.block_diag(list)
  if type(list) ~= "table" or is_matrix(list) or #list == 0 then core.fail("block_diag needs a list of sparse matrices") end
  local rows = {}
  for k, a in ipairs(list) do
    check(a, ("block_diag: matrix %d"):format(k))
    rows[k] = {}
    for j = 1, #list do rows[k][j] = j == k and a or 0 end
  end
  return sparse.block(rows)
end

--- The Kronecker product.
---@return table
function sparse.kron(a, b)
  local p, v = parts(check(a, "kron"))
  return matrix(S.kron(p, v, parts(check(b, "kron"))))
end

--- Differences over faces, {faces, n}: (G*p)[f] = p[right[f]] - p[left[f]]. G.T*q is then what flows into each cell, with q from left to right.
---@param left any   for each face the number of its left cell
---@param right any
---@param n number   how many cells there are
---@return table
function sparse.incidence(left, right, n) return matrix(S.incidence(left, right, n)) end

--- A matrix from a MatrixMarket file: sparse from coordinates, a tensor from the array format.
---@param path string
---@return any
function sparse.load(path)
  if type(path) ~= "string" then core.fail(("load needs a path, not %s"):format(type(path))) end
  local p, v = S.load(path)
  if v == nil then return p end
  return matrix(p, v)
end

--- Writes a sparse matrix, or a tensor {m, n}, to a MatrixMarket file, with digits enough to give the same numbers again.
---@param path string
function sparse.save(path, a)
  if type(path) ~= "string" then core.fail(("save needs a path, not %s"):format(type(path))) end
  if is_matrix(a) then S.save(path, parts(a)) else S.save(path, a) end
end

local function scalar(x) return type(x) == "number" or (is_tensor(x) and x.rank == 0) end

local function reject(op, a, b)
  local function name(x)
    if is_matrix(x) then return ("a sparse matrix {%s}"):format(table.concat(x.shape, ", ")) end
    if is_tensor(x) then return ("a tensor {%s}"):format(table.concat(x.shape, ", ")) end
    return x == nil and "nil" or "a " .. type(x)
  end
  core.fail(("%s of %s and %s: numbers scale a sparse matrix (* and /), sparse*dense and sparse*sparse are products, sparse matrices add")
    :format(op, name(a), name(b)))
end

-- What a matrix makes with an operator that is a program is one.
local function with_operator(op, a, b)
  if not operator.is_operator(b) then reject(op, a, b) end
  a = operator.of(a)
  return op == "sum" and a + b or op == "difference" and a - b or a*b
end

-- f(pattern, values, pattern, values)
local function pair(f, a, b)
  local p, v = parts(a)
  return matrix(f(p, v, parts(b)))
end

-- f(pattern, values, x)
local function with(f, a, x)
  local p, v = parts(a)
  return matrix(f(p, v, x))
end

function Matrix.__add(a, b)
  if not (is_matrix(a) and is_matrix(b)) then return with_operator("sum", a, b) end
  return pair(S.add, a, b)
end

function Matrix.__unm(a) return with(S.scale, a, -1) end

function Matrix.__sub(a, b)
  if not (is_matrix(a) and is_matrix(b)) then return with_operator("difference", a, b) end
  return pair(S.subtract, a, b)
end

function Matrix.__mul(a, b)
  if is_matrix(a) and is_matrix(b) then return pair(S.multiply, a, b) end
  if is_matrix(a) and scalar(b) then return with(S.scale, a, b) end
  if is_matrix(b) and scalar(a) then return with(S.scale, b, a) end
  if is_matrix(a) and (is_tensor(b) or core.is_buffer(b)) then
    local of = rawget(a, "of")
    if of then return S.apply(of.pattern, of.values, b, true) end
    return S.apply(a.pattern, a.values, b)
  end
  return with_operator("product", a, b)
end

function Matrix.__div(a, b)
  if not (is_matrix(a) and scalar(b)) then reject("quotient", a, b) end
  local p, v = parts(a)
  return matrix(p, v/b)
end

function Matrix.__pow(a, b) reject("power", a, b) end

--- A linear operator that is a program.
sparse.operator = operator.operator

local methods = {}
sparse.Matrix = methods -- for help

--- The product with a matrix, sparse or dense, or a vector.
function methods.matmul(a, b) return a*b end

--- The product entry by entry: it has those that both have.
---@param b table  a sparse matrix of the same shape
function methods.hadamard(a, b) return pair(S.hadamard, check(a, "hadamard"), check(b, "hadamard")) end

--- diag(d) A: row i times d[i].
---@param d any  {rows}
function methods.scale_rows(a, d) return with(S.scale_rows, a, d) end

--- A diag(d): column j times d[j].
---@param d any  {columns}
function methods.scale_columns(a, d) return with(S.scale_columns, a, d) end

--- B' D B: stiffness assembly; one linear map of D, made once. D is one number, the diagonal matrix of a weight for each row, or made of
--- a block for each k rows: weights {cells, k, k} for B with k rows a cell. It is symmetric where D is (with blocks, to rounding).
---@param d any  a number, {rows}, or {rows/k, k, k}
function methods.gram(b, d) return with(S.gram, b, d) end

for name, f in pairs(require "perilune.solve") do methods[name] = f end

--- A:eigsh(k, options).
function sparse.eigsh(a, k, options) return check(a, "eigsh"):eigsh(k, options) end

--- The dense tensor.
function methods.dense(a) return S.dense(parts(a)) end

--- Row indices, column indices and values of the entries, row by row.
function methods.entries(a)
  local p, v = parts(a)
  return S.indices(p, false), S.indices(p, true), v
end

--- The same matrix with values of another dtype, "f64" or "f32".
function methods.astype(a, dtype) return with(S.cast, a, dtype) end
methods.to = methods.astype

--- The entries (i, i + k) as a vector: the diagonal, or one above (k > 0) or below it.
---@param k? number  0
function methods.diag(a, k)
  local p, v = parts(a)
  return S.diagonal(p, v, k or 0)
end

--- The sum of the diagonal.
function methods.trace(a) return S.trace(parts(a)) end

--- The sum of all entries; down the columns, {columns}, with axis 1; along the rows, {rows}, with axis 2.
---@param axis? number
function methods.sum(a, axis)
  local p, v = parts(a)
  return S.sum(p, v, axis)
end

local norms = {fro = 0, [1] = 1, inf = 2, [math.huge] = 2, max = 3}
--- A norm: "fro" (the default), the root of the sum of squares; 1, the largest column sum of absolute values; "inf", the largest row sum;
--- "max", the largest absolute value.
---@param kind? any
function methods.norm(a, kind)
  local place = norms[kind == nil and "fro" or kind]
  if not place then core.fail(("norm: there is no norm %s of a sparse matrix; there are \"fro\", 1, \"inf\" and \"max\""):format(tostring(kind))) end
  local p, v = parts(a)
  return S.norm(p, v, place)
end

--- The system A u = b with the unknowns `fixed` set to a value: the matrix with their rows and columns replaced by those of the identity
--- (so it stays symmetric), and the right-hand side, from which what the fixed ones contribute has been taken.
---@param fixed any  indices of unknowns, each once
---@param b any      {n} or {n, k}
---@param value any  one number, {#fixed} or {#fixed, k}
---@return table, any
function methods.dirichlet(a, fixed, b, value)
  local p, v = parts(a)
  local pattern, values, rhs = S.dirichlet(p, v, fixed, b, value == nil and 0 or value)
  return matrix(pattern, values), rhs
end

--- Row and column count.
function methods.size(a)
  local of = rawget(a, "of")
  local m, n = S.size((of or a).pattern)
  if of then return n, m end
  return m, n
end

--- A(rows, columns): a part of the matrix. Each subscript is a number, a range "first:last:step" or {first, last, step}, an index tensor or a
--- mask, as of a dense tensor, whose shape the result has: a sparse matrix where both axes stay; an element, a row or a column is a tensor.
--- Two index tensors pair up, A(i, j)[k] = A[i[k], j[k]]; A(pl.ix(i, j)) takes all pairs. While a function is traced the indices must not
--- depend on its arguments.
function methods.select(a, ...)
  local p, v = parts(a)
  local part, values = S.index(p, v, ...)
  if values ~= nil then return matrix(part, values) end
  return part
end
Matrix.__call = methods.select

function Matrix.__index(a, key)
  if methods[key] then return methods[key] end
  local of = rawget(a, "of")
  if key == "T" then return of or setmetatable({of = a}, Matrix) end
  if key == "pattern" then return (S.transpose(of.pattern, of.values)) end
  if key == "values" then return (select(2, S.transpose(of.pattern, of.values))) end
  if key == "shape" then return {a:size()} end
  if key == "nnz" then return (select(3, S.size((of or a).pattern))) end
  if key == "dtype" then return (of or a).values.dtype end
  core.fail(("a sparse matrix has no field or method '%s'"):format(tostring(key)))
end

function Matrix.__tostring(a)
  local m, n = a:size()
  local lines = {("sparse {%d, %d}, %d entries, %s"):format(m, n, a.nnz, a.dtype)}
  local i, j, v = a:entries()
  if not pcall(v.item, v, 1) then return lines[1] end -- empty, or being traced
  for k = 1, math.min(a.nnz, 20) do lines[#lines + 1] = ("  %d, %d: %.6g"):format(i:item(k), j:item(k), v:item(k)) end
  if a.nnz > 20 then lines[#lines + 1] = ("  ... and %d more"):format(a.nnz - 20) end
  return table.concat(lines, "\n")
end

return sparse
