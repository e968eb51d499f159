-- Solves with sparse matrices: methods of a sparse matrix, and factors.
local core = require "perilune.core"
local S = core.sparse

local methods = {}

local Factor = {__name = "matrix factor"}
Factor.__index = Factor

local function check_options(options, valid, what)
  if options ~= nil and type(options) ~= "table" then core.fail(("%s: options are a table, not a %s"):format(what, type(options))) end
  for key in pairs(options or {}) do
    if not valid[key] then
      local names = {}
      for name in pairs(valid) do names[#names + 1] = name end
      table.sort(names)
      core.fail(("%s has no option '%s'; it has %s"):format(what, tostring(key), table.concat(names, ", ")))
    end
  end
  return options or {}
end

local factor_options = {definite = true, symmetric = true, method = true}
local solve_options = {definite = true, symmetric = true, method = true, transpose = true}

local function factor(a, options)
  return S.factor(a.pattern, a.values, options.method, options.definite and "definite" or options.symmetric and "symmetric" or nil)
end

--- Factors the matrix once, for any number of solves; derivatives reuse the factor too.
---@param options? table  {definite = true: symmetric positive definite (checked), symmetric = true, method = "klu" | "umfpack" |
--- "cholmod" (definite) | "ldl" (symmetric, without pivoting) | "tridiagonal" | "banded" | "dense"; else chosen from the matrix}
function methods.factor(a, options)
  options = check_options(options, factor_options, "factor")
  return setmetatable({matrix = a, resource = factor(a, options)}, Factor)
end

--- x with A x = b, for b {n} or {n, k}.
---@param options? table  {transpose = true: A' x = b}
function Factor:solve(b, options)
  options = check_options(options, {transpose = true}, "solve")
  if b == nil then core.fail("solve: the right-hand side is nil") end
  return S.solve(self.resource, self.matrix.pattern, self.matrix.values, b, options.transpose or false)
end

--- The method that made the factor, and why it was chosen ("" where it was asked for).
function Factor:solver() return S.solver(self.resource) end
function Factor:__tostring() return ("factor of a sparse matrix {%s} by %s"):format(table.concat(self.matrix.shape, ", "), (self:solver())) end

--- The method that solves with this matrix takes, and why: it depends on the entries' places and values alone. Factors the matrix.
---@param options? table  those of factor
function methods.solver(a, options)
  return S.solver(factor(a, check_options(options, factor_options, "solver")))
end

--- x with A x = b, for b {n} or {n, k}. A singular matrix is an error that names the row.
---@param options? table  those of factor, and transpose = true: A' x = b
function methods.solve(a, b, options)
  options = check_options(options, solve_options, "solve")
  if b == nil then core.fail("solve: the right-hand side is nil") end
  return S.solve(factor(a, options), a.pattern, a.values, b, options.transpose or false)
end

return methods
