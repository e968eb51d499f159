-- Linear operators that are programs, and Krylov solves with them. A sparse matrix is one too.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local control = require "perilune.control"
local program, S = core.program, core.sparse
local is_tensor = core.is_tensor

local operator = {}
local Operator = {__name = "linear operator"}
local Preconditioner = {__name = "preconditioner"}

local function is_operator(x) return type(x) == "table" and getmetatable(x) == Operator end
operator.is_operator = is_operator

local function kind_of(x)
  if is_tensor(x) then return ("a tensor {%s}"):format(table.concat(x.shape, ", ")) end
  return x == nil and "nil" or type(x)
end

local function whole(n, least) return type(n) == "number" and n >= least and n == math.floor(n) and n < math.huge end

-- ---- programs ----

-- A program of one vector, traced from f for a model; returns it and what it captured. The trace is put on the list.
local function trace(traces, f, model, n, what)
  local body, captured, _, t = control.trace({model}, 1, f, function(inputs) return inputs[1] end, function(out)
    local y = out[2]
    if not is_tensor(y) or y.rank ~= 1 or y.count ~= n or y.dtype ~= "f64" then
      core.fail(("%s must return a vector {%d} of f64, not %s%s"):format(what, n, kind_of(y), is_tensor(y) and " of " .. y.dtype or ""))
    end
    return {y}
  end)
  traces[#traces + 1] = t
  return body, captured
end

-- A program with the further inputs `more`, which it does not read.
local function widened(traces, body, model, captured, more)
  if #more == 0 then return body end
  local all = {model, unpack(captured)}
  for _, v in ipairs(more) do all[#all + 1] = v end
  local t, inputs = program.open(all, #all)
  traces[#traces + 1] = t
  return (t:close(body:inline{unpack(inputs, 1, 1 + #captured)}))
end

local function joined(a, b)
  local all = {unpack(a)}
  for _, v in ipairs(b) do all[#all + 1] = v end
  return all
end

-- Programs of A and, where it was given, of A', with the same further inputs.
local function programs_of(op, traces, model)
  local n = op.size[1]
  local apply, theta = trace(traces, op.apply, model, n, "the operator")
  if not op.transpose then return apply, theta end
  local given, more = trace(traces, op.transpose, model, n, "the operator's transpose")
  -- theta stands between the vector and what the transpose captured
  local all = joined(theta, more)
  local t, inputs = program.open({model, unpack(all)}, 1 + #all)
  traces[#traces + 1] = t
  local y = given:inline{inputs[1], unpack(inputs, 2 + #theta)}
  return widened(traces, apply, model, theta, more), all, (t:close(y))
end

-- ---- solves ----

local krylov = {cg = true, minres = true, gmres = true, bicgstab = true}
local solve_options = {method = true, precondition = true, rtol = true, atol = true, iterations = true, restart = true, start = true,
  check = true, history = true, transpose = true, definite = true, symmetric = true}

--- Do these options of a sparse matrix's solve ask for an iteration?
function operator.iterates(options)
  return type(options) == "table" and (krylov[options.method] or options.precondition ~= nil)
end

local function check(options)
  options = check_options(options, solve_options, "solve with a Krylov method")
  for name, least in pairs{rtol = 0, atol = 0, iterations = 1, restart = 1} do
    local v = options[name]
    local fine = v == nil or least == 1 and whole(v, 1) or least == 0 and type(v) == "number" and v >= 0 and v < math.huge
    if not fine then core.fail(("solve: %s must be a %s, not %s"):format(name, least == 1 and "whole number, 1 or more" or "number, 0 or more", tostring(v))) end
  end
  if options.method ~= nil and not krylov[options.method] then
    core.fail(("solve: there is no Krylov method %s: it is cg, minres, gmres or bicgstab"):format(tostring(options.method)))
  end
  return options
end

local function method_of(op, options)
  if options.method then return options.method end
  if op.definite or options.definite then return "cg" end
  return (op.symmetric or options.symmetric) and "minres" or "gmres"
end

-- r -> z, or nil
local function precondition_of(op, p)
  if p == nil or type(p) == "function" then return p end
  if type(p) == "string" then
    if not op.matrix then
      core.fail(('solve: "%s" needs the entries of a matrix; for an operator give a function r -> z, or A:preconditioner("%s") of a sparse matrix near it'):format(p, p))
    end
    p = operator.preconditioner(op.matrix, p)
  end
  if type(p) ~= "table" or getmetatable(p) ~= Preconditioner then
    core.fail(("solve: precondition is a name, a preconditioner or a function r -> z, not %s"):format(kind_of(p)))
  end
  return function(r) return S.precondition(p.resource, r, false) end
end

local function report_of(list)
  local report = {iterations = list[2], residual = list[3], converged = list[4], history = list[5]}
  if program.tracing() then return report end
  core.pause(function()
    report.iterations, report.residual, report.converged = list[2]:item(), list[3]:item(), list[4]:item()
    if list[5] then report.history = list[5][{1, report.iterations + 1}] end
  end)
  return report
end

local function solve_vector(op, b, start, options, method, precondition)
  local traces = {}
  return control.perform(traces, function(list) return list[1], report_of(list) end, function()
    local apply, theta, transposed = programs_of(op, traces, b)
    local m, phi
    if precondition then m, phi = trace(traces, precondition, b, b.count, "the preconditioner") end
    return program.krylov(apply, theta, transposed, m, phi or {}, b, start, {method = method, rtol = options.rtol, atol = options.atol,
      iterations = options.iterations, restart = options.restart, check = options.check, history = options.history})
  end)
end

--- x with A x = b by a Krylov method, and a report.
function operator.solve(op, b, options)
  options = check(options)
  local n, start = op.size[1], options.start
  if n ~= op.size[2] then core.fail(("solve: the operator {%d, %d} is not square"):format(n, op.size[2])) end
  if not is_tensor(b) or b.rank < 1 or b.rank > 2 or b.shape[1] ~= n or b.dtype ~= "f64" then
    core.fail(("solve: the right-hand side is %s%s; the operator {%d, %d} needs {%d} or {%d, k} of f64"):format(kind_of(b),
      is_tensor(b) and " of " .. b.dtype or "", n, n, n, n))
  end
  if start ~= nil and not (is_tensor(start) and table.concat(start.shape, ", ") == table.concat(b.shape, ", ") and start.dtype == "f64") then
    core.fail(("solve: the start is %s; it must be like the right-hand side, {%s} of f64"):format(kind_of(start), table.concat(b.shape, ", ")))
  end
  local method, precondition = method_of(op, options), precondition_of(op, options.precondition)
  if b.rank == 1 then return solve_vector(op, b, start, options, method, precondition) end
  local columns, reports = {}, {}
  for j = 1, b.shape[2] do
    columns[j], reports[j] = solve_vector(op, b(":", j), start and start(":", j), options, method, precondition)
  end
  if #columns == 0 then return core.zeros(n, 0), reports end
  return core.stack(columns, 2), reports
end

-- ---- preconditioners ----

local kinds = {jacobi = true, ilu = true, ichol = true, multigrid = true, hypre = true}

--- What approximates the inverse of a sparse matrix: A:preconditioner(kind, options).
function operator.preconditioner(a, kind, options)
  if not kinds[kind] then
    core.fail(("there is no preconditioner %s: it is jacobi, ilu, ichol, multigrid, hypre, or a function r -> z"):format(tostring(kind)))
  end
  options = check_options(options, kind == "multigrid" and {vectors = true, block = true, strength = true, degree = true} or {},
    "preconditioner " .. kind)
  if options.block ~= nil and not whole(options.block, 1) then core.fail "multigrid: block is a whole number, 1 or more" end
  if options.degree ~= nil and not whole(options.degree, 1) then core.fail "multigrid: degree is a whole number, 1 to 20" end
  if options.strength ~= nil and not (type(options.strength) == "number" and options.strength >= 0) then
    core.fail "multigrid: strength is a number, 0 or more"
  end
  if options.vectors ~= nil and not is_tensor(options.vectors) then core.fail "multigrid: vectors is a tensor {n, k}" end
  return setmetatable({kind = kind, size = a.shape, resource = S.preconditioner(a.pattern, a.values, kind, options, options.vectors)},
    Preconditioner)
end

function Preconditioner.__mul(p, r) return S.precondition(p.resource, r, false) end
function Preconditioner:__tostring() return ("preconditioner %s of a sparse matrix {%s}"):format(self.kind, table.concat(self.size, ", ")) end

-- ---- operators ----

local fields = {size = true, apply = true, transpose = true, symmetric = true, definite = true}

--- A linear operator that is a program: x -> A x, traced, with a product (A*x), a transpose (A.T) and solves (A:solve(b, options)).
--- What apply captures receives gradients. Operators add, are scaled by numbers and multiplied with each other.
---@param spec table  {size = n or {m, n}, apply = function x {n} -> {m}, transpose = function y {m} -> {n}: A', else found from apply's
--- program, symmetric = true, definite = true: symmetric positive definite}
---@return table
function operator.operator(spec)
  spec = check_options(spec, fields, "operator")
  local size = spec.size
  if type(size) == "number" then size = {size, size} end
  if type(size) ~= "table" or not whole(size[1], 0) or not whole(size[2], 0) then
    core.fail(("operator: size is n or {m, n}, not %s"):format(kind_of(spec.size)))
  end
  control.check_function(spec.apply, "operator: apply")
  if spec.transpose ~= nil then control.check_function(spec.transpose, "operator: transpose") end
  if (spec.symmetric or spec.definite) and size[1] ~= size[2] then core.fail(("operator: {%d, %d} is not symmetric"):format(size[1], size[2])) end
  return setmetatable({size = size, apply = spec.apply, transpose = spec.transpose, symmetric = spec.symmetric or spec.definite or false,
    definite = spec.definite or false}, Operator)
end

local function of_matrix(a)
  return setmetatable({size = a.shape, apply = function(x) return a*x end, matrix = a}, Operator)
end

--- A sparse matrix, or its transpose, as an operator.
function operator.of(a, transpose) return of_matrix(transpose and a.T or a) end

local function as_operator(x)
  if is_operator(x) then return x end
  return type(x) == "table" and x.pattern and of_matrix(x) or nil
end

local function apply(op, x)
  if x.shape[1] ~= op.size[2] or x.rank > 2 then
    core.fail(("product of an operator {%d, %d} and a tensor {%s}"):format(op.size[1], op.size[2], table.concat(x.shape, ", ")))
  end
  if x.rank == 1 then return op.apply(x) end
  local columns = {}
  for j = 1, x.shape[2] do columns[j] = op.apply(x(":", j)) end
  return #columns == 0 and core.zeros(op.size[1], 0) or core.stack(columns, 2)
end

-- A' y by the transposed program of apply.
local function by_transposition(op)
  return function(y)
    local traces = {}
    return control.perform(traces, function(list) return list[1] end, function()
      local body, theta = trace(traces, op.apply, core.zeros(op.size[2]), op.size[1], "the operator")
      return program.call(body:transpose(), {y, unpack(theta)}, false)
    end)
  end
end

local function transposed(op)
  if op.symmetric then return op end
  if op.matrix then return of_matrix(op.matrix.T) end
  return setmetatable({size = {op.size[2], op.size[1]}, apply = op.transpose or by_transposition(op), transpose = op.apply, symmetric = false,
    definite = false}, Operator)
end

-- Of two operators of which one may be a sparse matrix.
local function pair(a, b, what)
  local x, y = as_operator(a), as_operator(b)
  if not x or not y then core.fail(("%s of %s and %s: operators and sparse matrices are meant"):format(what, kind_of(a), kind_of(b))) end
  return x, y
end

local function combination(a, b, sign, what)
  local x, y = pair(a, b, what)
  if x.size[1] ~= y.size[1] or x.size[2] ~= y.size[2] then
    core.fail(("%s of operators {%d, %d} and {%d, %d}"):format(what, x.size[1], x.size[2], y.size[1], y.size[2]))
  end
  local xt, yt = transposed(x), transposed(y)
  return operator.operator{size = x.size, apply = function(v) return x.apply(v) + sign*y.apply(v) end,
    transpose = function(v) return xt.apply(v) + sign*yt.apply(v) end, symmetric = x.symmetric and y.symmetric,
    definite = sign > 0 and x.definite and y.definite}
end

function Operator.__add(a, b) return combination(a, b, 1, "sum") end
function Operator.__sub(a, b) return combination(a, b, -1, "difference") end

local function scaled(op, s)
  local t = transposed(op)
  return operator.operator{size = op.size, apply = function(v) return s*op.apply(v) end, transpose = function(v) return s*t.apply(v) end,
    symmetric = op.symmetric, definite = op.definite and type(s) == "number" and s > 0}
end

function Operator.__unm(a) return scaled(a, -1) end

local function scalar(x) return type(x) == "number" or is_tensor(x) and x.rank == 0 end

function Operator.__mul(a, b)
  if is_operator(a) and is_tensor(b) and b.rank > 0 then return apply(a, b) end
  if scalar(b) then return scaled(a, b) end
  if scalar(a) then return scaled(b, a) end
  local x, y = pair(a, b, "product")
  if x.size[2] ~= y.size[1] then
    core.fail(("product of operators {%d, %d} and {%d, %d}"):format(x.size[1], x.size[2], y.size[1], y.size[2]))
  end
  local xt, yt = transposed(x), transposed(y)
  return operator.operator{size = {x.size[1], y.size[2]}, apply = function(v) return x.apply(y.apply(v)) end,
    transpose = function(v) return yt.apply(xt.apply(v)) end}
end

local methods = {}

--- x with A x = b by a Krylov method, for b {n} or, column by column, {n, k}; and a report {iterations, residual = |b - A x|, converged,
--- history}, of numbers, or tensors while a program is traced; for {n, k} a list of them. Derivatives are those of the exact solution:
--- one more solve to the same tolerance, whatever the number of iterations; start and preconditioner receive none. Not converging, an
--- operator or preconditioner that is not positive definite where the method needs it, and NaN are errors.
---@param b any  {n} or {n, k}, f64
---@param options? table  {method = "cg" (symmetric positive definite), "minres" (symmetric), "gmres" or "bicgstab"; else by what is known of
--- the operator; precondition = "jacobi" | "ilu" | "ichol" | "multigrid" | "hypre" (of sparse matrices), A:preconditioner(...) or a function
--- r -> z; rtol = 1e-10 (relative to |b|), atol = 0, iterations = 10 n (100 to 10000), restart = 30 (of gmres), start = x to begin with,
--- check = false: the x of the least residual that was found, without derivatives where it has not converged; history = true: the residuals}
---@return any x
---@return any report
function methods.solve(op, b, options) return operator.solve(op, b, options) end

function Operator.__index(op, key)
  if methods[key] then return methods[key] end
  if key == "T" then return transposed(op) end
  if key == "shape" then return op.size end
  if key == "matrix" or key == "transpose" or key == "symmetric" or key == "definite" then return nil end
  core.fail(("an operator has no field or method '%s'"):format(tostring(key)))
end

function Operator:__tostring() return ("linear operator {%d, %d}"):format(self.size[1], self.size[2]) end

return operator
