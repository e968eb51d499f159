-- Linear operators that are programs, and Krylov solves with them. A sparse matrix is one too.
local core = require "perilune.core"
local control = require "perilune.control"
local program = core.program
local is_tensor = core.is_tensor

local operator = {}
local Operator = {__name = "linear operator"}

local function is_operator(x) return type(x) == "table" and getmetatable(x) == Operator end
operator.is_operator = is_operator

local krylov = {cg = true, minres = true, gmres = true, bicgstab = true}
operator.methods = krylov

local options_of_solve = {method = true, precondition = true, rtol = true, atol = true, iterations = true, restart = true, start = true,
  check = true, history = true, transpose = true, definite = true}

-- A program of one vector: traced from f; returns it, what it captured, its trace.
local function trace(f, model, n, what)
  local body, captured, _, t = control.trace({model}, 1, f, function(inputs) return inputs[1] end, function(out)
    local y = out[2]
    if not is_tensor(y) or y.rank ~= 1 or y.count ~= n or y.dtype ~= "f64" then
      core.fail(("%s must return a vector {%d} of f64, not %s"):format(what, n,
        is_tensor(y) and ("{%s} of %s"):format(table.concat(y.shape, ", "), y.dtype) or y == nil and "nil" or type(y)))
    end
    return {y}
  end)
  return body, captured, t
end

local function number(options, name, least, whole)
  local v = options[name]
  if v ~= nil and (type(v) ~= "number" or not (v >= least) or v == math.huge or whole and v ~= math.floor(v)) then
    core.fail(("solve: %s must be a %s, %g or more, not %s"):format(name, whole and "whole number" or "number", least, tostring(v)))
  end
  return v
end

local function report_of(list)
  local report = {iterations = list[2], residual = list[3], converged = list[4], history = list[5]}
  if program.tracing() then return report end
  local iterations = list[2]:item()
  report.iterations, report.residual, report.converged = iterations, list[3]:item(), core.all(list[4])
  if list[5] then report.history = core.detach(list[5])[{1, iterations + 1}] end
  return report
end

local function solve_vector(op, b, options, precondition)
  local traces = {}
  local function keep(body, captured, t)
    traces[#traces + 1] = t
    return body, captured
  end
  local function all()
    local n = op.size[1]
    local apply, theta = keep(trace(op.apply, b, n, "the operator"))
    local m, phi
    if precondition then m, phi = keep(trace(precondition, b, n, "the preconditioner")) end
    return apply, theta, nil, m, phi or {}, b, options.start, options
  end
  return control.perform(traces, function(list) return list[1], report_of(list) end, function() return program.krylov(all()) end)
end

--- x with A x = b by a Krylov method, and a report.
function operator.solve(op, b, options)
  options = control.check_options(options, options_of_solve, "solve with a Krylov method")
  if not is_tensor(b) then core.fail(("solve: the right-hand side is %s, not a tensor"):format(b == nil and "nil" or type(b))) end
  number(options, "rtol", 0)
  number(options, "atol", 0)
  number(options, "iterations", 1, true)
  number(options, "restart", 1, true)
  return solve_vector(op, b, options, nil)
end

--- A linear operator.
---@return table
function operator.operator(spec)
  return setmetatable({size = spec.size, apply = spec.apply}, Operator)
end

return operator
