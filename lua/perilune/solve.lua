-- Solves with sparse matrices: methods of a sparse matrix, and factors.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local operator = require "perilune.operator"
local S = core.sparse

local methods = {}

local Factor = {__name = "matrix factor"}
Factor.__index = Factor

local factor_options = {definite = true, symmetric = true, method = true}
local solve_options = {definite = true, symmetric = true, method = true, transpose = true, fixed = true, value = true, nullspace = true}

-- Method and what is known of the matrix.
local function asked(options) return options.method, options.definite and "definite" or options.symmetric and "symmetric" or nil end

-- Pattern, values, and whether it is their transpose that is meant: A.T solves with A's factor.
local function parts(a, transpose)
  local of = rawget(a, "of")
  if of then return of.pattern, of.values, not transpose end
  return a.pattern, a.values, transpose or false
end

local function right_side(b)
  if b == nil then core.fail("solve: the right-hand side is nil") end
  return b
end

local function factor(a, options)
  local pattern, values = parts(a)
  return S.factor(pattern, values, asked(options))
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
  local pattern, values, transpose = parts(self.matrix, options.transpose)
  return S.solve(pattern, values, self.resource, right_side(b), transpose)
end

local function determinant(a, resource)
  local pattern, values = parts(a)
  return S.logdet(pattern, values, resource)
end

--- log |det A|. Its derivative in the entries is the inverse on their places, by recurrences on the factor; higher ones take a solve
--- for each row.
function Factor:logdet() return (determinant(self.matrix, self.resource)) end

--- The sign of det A (1 or -1) and log |det A|.
function Factor:slogdet()
  local log, sign = determinant(self.matrix, self.resource)
  return sign, log
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
---@param options? table  those of factor, and transpose = true: A' x = b;
--- fixed = indices or a mask of unknowns that are known, value = a number, {#fixed} or {#fixed, k} (0): x there; the other rows hold, and
--- what is left of the matrix stays symmetric and definite; nullspace = "constant" or a tensor {n} or {n, k}: of a symmetric matrix
--- (pure Neumann problems), the x orthogonal to it, for b without its part in it. With a Krylov method ("cg", "minres", "gmres",
--- "bicgstab") or `precondition` it iterates, and there is a report too: the options are those of an operator's solve, and transpose
function methods.solve(a, b, options)
  if operator.iterates(options) then return operator.solve(operator.of(a, options.transpose), b, options) end
  options = check_options(options, solve_options, "solve")
  right_side(b)
  local pattern, values, transpose = parts(a, options.transpose)
  local method, known = asked(options)
  if options.nullspace ~= nil then
    if options.fixed ~= nil then core.fail("solve: fixed and nullspace exclude each other: with enough fixed unknowns there is no null space") end
    local null = options.nullspace
    if type(null) == "string" and null ~= "constant" then core.fail(("solve: the null space is \"constant\" or a tensor, not '%s'"):format(null)) end
    return S.solve_null(pattern, values, b, method, known, null ~= "constant" and null or nil)
  end
  if options.fixed ~= nil then return S.solve_fixed(pattern, values, b, method, known, transpose, options.fixed, options.value) end
  if options.value ~= nil then core.fail("solve: `value` goes with `fixed`, the unknowns that have it") end
  return S.solve(pattern, values, S.factor(pattern, values, method, known), b, transpose)
end

--- log |det A| by a factor; see the factor's own.
---@param options? table  those of factor
function methods.logdet(a, options) return methods.factor(a, options):logdet() end

--- The sign of det A (1 or -1) and log |det A|.
---@param options? table  those of factor
function methods.slogdet(a, options) return methods.factor(a, options):slogdet() end

--- Least squares by sparse QR: the x of least |A x - b|, for A with more rows than columns; with fewer, the least x with A x = b.
--- A must have full rank (its rank is in the error). Differentiable in A and b.
---@param b any  {rows} or {rows, k}
function methods.lstsq(a, b)
  if b == nil then core.fail("lstsq: the right-hand side is nil") end
  return S.lstsq(a.pattern, a.values, b)
end

local eigen_options = {which = true, sigma = true, M = true, rtol = true, iterations = true}
local places = {smallest = 0, largest = 1}

--- k eigenvalues {k}, ascending, and eigenvectors {n, k}, in columns, of a symmetric sparse matrix: A x = w x, or A x = w M x, with
--- V' M V = 1, the largest component of each positive. By Lanczos's method with a shift and thick restarts; equal eigenvalues are all
--- found. Differentiable; the vectors of equal eigenvalues are not, but functions that do not turn with them are, in reverse.
---@param k number
---@param options? table  {which = "smallest" (default) or "largest"; or sigma: those nearest to it; M = a symmetric positive definite
--- sparse matrix, rtol = 1e-12 (of residuals), iterations = 300 (restarts)}. Not converged: an error
function methods.eigsh(a, k, options)
  options = check_options(options, eigen_options, "eigsh")
  local which = options.which or "smallest"
  if not places[which] then core.fail(("eigsh: which is \"smallest\" or \"largest\", not '%s'"):format(tostring(which))) end
  if options.sigma ~= nil and options.which ~= nil then core.fail("eigsh: sigma and which exclude each other: sigma takes those nearest to it") end
  local M = options.M
  if M ~= nil and not (type(M) == "table" and M.pattern) then core.fail(("eigsh: M is a sparse matrix, not a %s"):format(type(M))) end
  return S.eigsh(a.pattern, a.values, k, options.sigma and 2 or places[which], options.sigma or 0, options.rtol or 1e-12, options.iterations or 300,
    M and M.pattern, M and M.values)
end

--- What approximates the inverse of the matrix, for solves with Krylov methods: made once, for any number of solves.
---@param kind string  "jacobi" | "ilu" (ILU(0)) | "ichol" (IC(0), symmetric positive definite) | "multigrid" (smoothed aggregation) | "hypre"
---@param options? table  of multigrid: {vectors = {n, k}: what the matrix hardly sees (rigid motions; constants), block = 1: unknowns of
--- a node, strength = 0.08: of connections, degree = 2: of the smoother}
function methods.preconditioner(a, kind, options) return operator.preconditioner(a, kind, options) end

return methods
