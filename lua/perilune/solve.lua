-- Solves with sparse matrices: methods of a sparse matrix, and factors.
local core = require "perilune.core"
local S = core.sparse

local methods = {}

local Factor = {__name = "matrix factor"}
Factor.__index = Factor

local solve_options = {definite = true, method = true, transpose = true}
local function method_of(options)
  for key in pairs(options or {}) do
    if not solve_options[key] then core.fail(("solve has no option '%s'; it has definite, method, transpose"):format(tostring(key))) end
  end
  options = options or {}
  return options.method or (options.definite and "cholmod") or "auto"
end

--- Factors the matrix once, for any number of solves; derivatives reuse the factor too.
---@param options? table  {definite = true: symmetric positive definite, method = "klu" | "umfpack" | "cholmod"}
function methods.factor(a, options)
  return setmetatable({matrix = a, resource = S.factor(a.pattern, a.values, method_of(options))}, Factor)
end

--- x with A x = b, for b {n} or {n, k}.
---@param options? table  {transpose = true}
function Factor:solve(b, options)
  return S.solve(self.resource, self.matrix.pattern, self.matrix.values, b, options and options.transpose or false)
end

--- The library that made the factor.
function Factor:solver() return S.solver(self.resource) end
function Factor:__tostring() return ("factor of a sparse matrix {%s} by %s"):format(table.concat(self.matrix.shape, ", "), self:solver()) end

--- x with A x = b, for b {n} or {n, k}. A singular matrix is an error that names the row.
---@param options? table  {definite = true: symmetric positive definite, method, transpose = true}
function methods.solve(a, b, options)
  if b == nil then core.fail("solve: the right-hand side is nil") end
  local f = S.factor(a.pattern, a.values, method_of(options))
  return S.solve(f, a.pattern, a.values, b, options and options.transpose or false)
end

return methods
