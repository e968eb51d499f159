-- Sparse matrices: a pattern and a vector of values, which is a tensor like any other. Indices are 1-based.
local core = require "perilune.core"
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

--- The Kronecker product.
---@return table
function sparse.kron(a, b)
  check(a, "kron")
  check(b, "kron")
  return matrix(S.kron(a.pattern, a.values, b.pattern, b.values))
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

function Matrix.__add(a, b)
  if not (is_matrix(a) and is_matrix(b)) then reject("sum", a, b) end
  return matrix(S.add(a.pattern, a.values, b.pattern, b.values))
end

function Matrix.__unm(a) return matrix(S.scale(a.pattern, a.values, -1)) end

function Matrix.__sub(a, b)
  if not (is_matrix(a) and is_matrix(b)) then reject("difference", a, b) end
  if S.same(a.pattern, b.pattern) then return matrix(b.pattern, a.values - b.values) end
  return matrix(S.add(a.pattern, a.values, S.scale(b.pattern, b.values, -1)))
end

function Matrix.__mul(a, b)
  if is_matrix(a) and is_matrix(b) then return matrix(S.multiply(a.pattern, a.values, b.pattern, b.values)) end
  if is_matrix(a) and scalar(b) then return matrix(S.scale(a.pattern, a.values, b)) end
  if is_matrix(b) and scalar(a) then return matrix(S.scale(b.pattern, b.values, a)) end
  if is_matrix(a) and (is_tensor(b) or core.is_buffer(b)) then return S.apply(a.pattern, a.values, b) end
  reject("product", a, b)
end

function Matrix.__div(a, b)
  if not (is_matrix(a) and scalar(b)) then reject("quotient", a, b) end
  return matrix(a.pattern, a.values/b)
end

function Matrix.__pow(a, b) reject("power", a, b) end

local methods = {}

--- The product with a matrix, sparse or dense, or a vector.
function methods.matmul(a, b) return a*b end

--- B' diag(d) B: stiffness assembly; one linear map of d, made once.
---@param d any  a weight for each row, or one number
function methods.gram(b, d) return matrix(S.gram(b.pattern, b.values, d)) end

for name, f in pairs(require "perilune.solve") do methods[name] = f end

--- The dense tensor.
function methods.dense(a) return S.dense(a.pattern, a.values) end

--- Row indices, column indices and values of the entries.
function methods.entries(a) return S.indices(a.pattern, false), S.indices(a.pattern, true), a.values end

--- Row and column count.
function methods.size(a)
  local m, n = S.size(a.pattern)
  return m, n
end

function Matrix.__index(a, key)
  if methods[key] then return methods[key] end
  if key == "T" then return matrix(S.transpose(a.pattern, a.values)) end
  if key == "shape" then
    local m, n = S.size(a.pattern)
    return {m, n}
  end
  if key == "nnz" then return (select(3, S.size(a.pattern))) end
  core.fail(("a sparse matrix has no field or method '%s'"):format(tostring(key)))
end

function Matrix.__tostring(a)
  local m, n, nnz = S.size(a.pattern)
  local lines = {("sparse {%d, %d}, %d entries"):format(m, n, nnz)}
  if nnz <= 20 then
    local i, j, v = a:entries()
    for k = 1, nnz do lines[#lines + 1] = ("  %d, %d: %.6g"):format(i:item(k), j:item(k), v:item(k)) end
  end
  return table.concat(lines, "\n")
end

return sparse
