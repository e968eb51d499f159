-- Nonlinear equations and minima found by iteration, which is never recorded: derivatives are those of the implicit function at
-- the solution. The functions given are traced once a call: only shapes exist while they run.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local tree = require "perilune.tree"
local control = require "perilune.control"
local program = core.program

local nonlinear = {}
local is_tensor = core.is_tensor
local tensors, append = control.tensors, control.append

-- ---- unknowns as one vector ----

-- The start as a vector, and what makes trees of vectors.
local function unknowns(start, what)
  if start == nil then core.fail(what .. " needs a place to start from, not nil") end
  local leaves, form = tree.leaves(start)
  local parts, n = tensors(leaves), 0
  for k, p in ipairs(parts) do
    if p.dtype ~= "f64" then
      core.fail(("%s: the unknown%s is %s; it must be f64"):format(what, leaves[k].path == "" and "" or " " .. leaves[k].path, p.dtype))
    end
    n = n + p.count
  end
  return {parts = parts, form = form, n = n, leaves = leaves, what = what}
end

local function join(list)
  if #list == 1 then return list[1].rank == 1 and list[1] or core.ravel(list[1]) end
  local flat = {}
  for k, p in ipairs(list) do flat[k] = core.ravel(p) end
  return core.concat(flat)
end

local function split(u, vector)
  local parts = u.parts
  if #parts == 1 then return tree.build(u.form, {parts[1].rank == 1 and vector or core.reshape(vector, parts[1].shape)}) end
  local list, at = {}, 0
  for k, p in ipairs(parts) do
    list[k] = core.reshape(vector[{at + 1, at + p.count}], p.shape)
    at = at + p.count
  end
  return tree.build(u.form, list)
end

-- visit(number of the leaf, what stands there in another tree) for each leaf of the form that the other tree has.
local function along(form, other, visit, what)
  if type(form) == "number" then return visit(form, other) end
  if type(other) ~= "table" then core.fail(what .. " must be a tree like the start") end
  local known = {}
  for k, key in ipairs(form.keys) do
    known[key] = true
    if other[key] ~= nil then along(form.forms[k], other[key], visit, what) end
  end
  for key in pairs(other) do
    if not known[key] then core.fail(("%s has an entry '%s' that the start has not"):format(what, tostring(key))) end
  end
end

-- Bounds as two vectors.
local function read_bounds(u, bounds)
  local lo, hi, what = {}, {}, u.what .. ": bounds"
  local function set(k, pair)
    if type(pair) ~= "table" or #pair ~= 2 then core.fail(what .. " are {lo, hi}, or a tree of such pairs") end
    for side, list in ipairs{lo, hi} do
      local x = pair[side]
      if type(x) ~= "number" and not is_tensor(x) then core.fail(what .. " are numbers or tensors") end
      list[k] = core.broadcast_to(is_tensor(x) and x or core.tensor(x), u.parts[k].shape)
    end
  end
  local one = type(bounds) == "table" and (type(bounds[1]) == "number" or is_tensor(bounds[1]))
  for k in ipairs(u.parts) do set(k, one and bounds or {-math.huge, math.huge}) end
  if not one then along(u.form, bounds, set, what) end
  return join(lo), join(hi)
end

-- The places of the vector that are not fixed, an index tensor.
local function free_places(u, fixed)
  local held, offsets, at, what = {}, {}, 0, u.what .. ": fixed"
  for k, p in ipairs(u.parts) do
    offsets[k] = at
    at = at + p.count
  end
  local function hold(k, places)
    local count = u.parts[k].count
    if is_tensor(places) then
      if places.dtype == "bool" then places = core.nonzero(core.ravel(places)) end
      places = core.ravel(places):totable()
    end
    if type(places) ~= "table" then core.fail(what .. " is a list of places, or a tree of such lists") end
    for _, i in ipairs(places) do
      local place = type(i) == "number" and i < 0 and count + 1 + i or i
      if type(place) ~= "number" or place ~= math.floor(place) or place < 1 or place > count then
        core.fail(("%s: %s is no place among %d unknowns"):format(what, tostring(i), count))
      end
      held[offsets[k] + place] = true
    end
  end
  if #u.parts == 1 and (is_tensor(fixed) or type(fixed) == "table" and (#fixed > 0 or next(fixed) == nil)) then hold(1, fixed)
  else along(u.form, fixed, hold, what) end
  local free = {}
  for i = 1, u.n do
    if not held[i] then free[#free + 1] = i end
  end
  return core.tensor(free, {dtype = "i64"})
end

-- ---- reports ----

local ends = {
  [0] = "converged",
  "the iterations were used up",
  "no step along the Newton direction lowers the residual",
  "the residual is not finite where it starts",
  "the Jacobian is singular",
  "GMRES does not lower the residual of the linear system",
}

local Report = {}
function Report:__tostring()
  return ("%s: %d iterations, residual %.3g (%.3g at the start), %d evaluations, %d Jacobians"):format(self.message, self.iterations,
    self.residual, self.history[1], self.evaluations, self.jacobians)
end

-- From the record of a solve; in a trace its fields are tensors, and history has room for all iterations (NaN beyond).
local function report_of(record)
  if program.tracing() then
    return {converged = record[1]:eq(0), iterations = record[2], residual = record[3], evaluations = record[5], jacobians = record[6],
      linear_iterations = record[7], history = record["8:"]}
  end
  local r = record:totable()
  local history = {}
  for k = 1, r[2] + 1 do history[k] = r[7 + k] end
  return setmetatable({converged = r[1] == 0, iterations = r[2], residual = r[3], evaluations = r[5], jacobians = r[6], linear_iterations = r[7],
    history = history, message = ends[r[1]]}, Report)
end

-- ---- options ----

local function check_number(options, what, name, default, least)
  local v = options[name]
  if v == nil then return default end
  if type(v) ~= "number" or v ~= v or v < (least or 0) then core.fail(("%s: %s must be a number, %g or more, not %s"):format(what, name, least or 0, tostring(v))) end
  return v
end

local function check_whole(options, what, name, default, least)
  local v = check_number(options, what, name, default, least)
  if v ~= math.floor(v) or v > 1e9 then core.fail(("%s: %s must be a whole number, not %s"):format(what, name, tostring(v))) end
  return v
end

local function choice(options, what, name, values, default)
  local v = options[name]
  if v == nil then return default end
  if values[v] == nil then
    local names = {}
    for key in pairs(values) do names[#names + 1] = ("%q"):format(key) end
    table.sort(names)
    core.fail(("%s: %s is %s, not %s"):format(what, name, table.concat(names, ", "), tostring(v)))
  end
  return values[v]
end

-- The names of equations as the engine takes them, for messages.
local function names_of(leaves, parts)
  if #parts == 1 and parts[1].rank == 1 and leaves[1].path == "" then return nil end
  local list = {}
  for k, p in ipairs(parts) do
    local shape, name = p.shape, leaves[k].path == "" and "equation" or leaves[k].path
    append(list, {p.count, #shape})
    append(list, shape)
    append(list, {#name, name:byte(1, #name)})
  end
  return list
end

-- ---- newton ----

local searches = {none = 0, backtrack = 1, dogleg = 2, pseudo_transient = 3}
local newton_options = {iterations = true, atol = true, rtol = true, line_search = true, step_limit = true, bounds = true, fixed = true, jacobian = true,
  continuation = true, check = true}

local function read_newton(options, what)
  options = check_options(options, newton_options, what)
  local o = {
    iterations = check_whole(options, what, "iterations", 50),
    atol = check_number(options, what, "atol", 1e-12),
    rtol = check_number(options, what, "rtol", 1e-10),
    step_limit = check_number(options, what, "step_limit", 0),
    search = choice(options, what, "line_search", searches, 1),
    unchecked = options.check == false,
    krylov = options.jacobian == "krylov",
  }
  local j = options.jacobian
  if j ~= nil and not o.krylov then
    if type(j) == "string" then core.fail(("%s: jacobian is a function or \"krylov\", not %q"):format(what, j)) end
    control.check_function(j, what .. ": jacobian")
    if options.fixed ~= nil then core.fail(what .. ": with fixed unknowns the Jacobian is found; leave jacobian out") end
    o.given = j
  end
  return o, options
end

-- The numbers that continuation walks through.
local function read_continuation(c, what)
  if c == nil then return nil end
  local list = c
  if type(c) == "number" then
    if c < 1 or c ~= math.floor(c) then core.fail(("%s: continuation is a number of stages or a list, not %s"):format(what, tostring(c))) end
    list = {}
    for k = 1, c do list[k] = k/c end
  elseif is_tensor(c) then
    list = c:totable()
  end
  if type(list) ~= "table" or #list == 0 then core.fail(what .. ": continuation is a number of stages or a list of numbers") end
  for _, v in ipairs(list) do
    if type(v) ~= "number" then core.fail(what .. ": continuation is a list of numbers") end
  end
  return list
end

-- What the residual and a given Jacobian return, as lists of tensors for the engine; notes the pattern and the names in o.
local function equations(out, u, o, free)
  if out[2] == nil then core.fail(u.what .. ": the residual returns nothing") end
  local leaves = tree.leaves(out[2])
  local parts = tensors(leaves)
  local r = join(parts)
  if r.count ~= u.n then core.fail(("%s: %d equations for %d unknowns"):format(u.what, r.count, u.n)) end
  if free then
    r = r[free]
    local n = r.count
    o.names = {n, 1, n, 4, ("free"):byte(1, 4)}
    return {r}
  end
  o.names = names_of(leaves, parts)
  if not o.given then return {r} end
  local j = out[3]
  if type(j) == "table" and j.pattern then
    o.pattern = j.pattern
    return {r, j.values}
  elseif not is_tensor(j) then
    core.fail(("%s: the function given as jacobian returns a sparse matrix or a tensor {n, n}, not %s"):format(u.what, j == nil and "nil" or type(j)))
  end
  return {r, j}
end

-- One solve from the vector w on. Returns the next w and the record.
local function solve(f, u, w, o, bounds, free, base)
  local function residual(v)
    if o.given then return f(v), o.given(v) end
    return f(v)
  end
  local function arguments(inputs)
    local v = inputs[1]
    return split(u, free and core.put(base, free, v) or v)
  end
  local body, captured, _, t = control.trace({w}, 1, residual, arguments, function(out) return equations(out, u, o, free), {} end)
  return control.perform({t}, function(list) return list[1], list[2] end, program.newton, body, append(append({w}, captured), bounds), o)
end

--- u with residual(u) = 0, from a start u0, by Newton's method; and a report. u0, u and the residual are trees of as many f64
--- numbers in all; the residual is traced. The Jacobian is found from the residual's program: its sparsity, coloured, and solved
--- directly; or it is given as a function of u (a sparse matrix or a tensor {n, n}, checked against a derivative where it starts); or
--- jacobian = "krylov" uses its products with vectors alone (GMRES). What the residual captures receives derivatives by the implicit
--- function theorem, to any order, whatever the number of iterations.
---
--- line_search: "backtrack" halves steps until the residual falls; "dogleg" is a trust region; "pseudo_transient" follows
--- du/dt = -residual(u) with growing steps (for residuals whose flow is stable); "none". step_limit bounds the largest change of a component
--- in a step. bounds ({lo, hi}, or a tree of such pairs like u0) are kept by projection. fixed (places, a mask, or a tree of those)
--- keeps unknowns at u0 and leaves their equations out; derivatives flow to u0 there. continuation (a number of stages, or a list that ends
--- with the problem's own number) solves residual(u, lambda) for one lambda after another, from 1/stages to 1; only the last is differentiated.
---
--- It has converged when |F| <= atol + rtol |F(u0)| (2-norms); one more step is then tried. Not converging is an error that tells the
--- residuals and the worst equations; with check = false it is report.converged == false, and an error only where u is differentiated.
--- The report: converged, iterations, residual, history, evaluations, jacobians, linear_iterations, message (in a trace all but the message, as tensors).
---@param residual function  u -> tree
---@param start any  a number, a tensor or a tree
---@param options? table  {jacobian, line_search = "backtrack", step_limit, bounds, fixed, continuation, rtol = 1e-10, atol = 1e-12, iterations = 50, check = true}
---@return any u  like the start
---@return table report
function nonlinear.newton(residual, start, options)
  control.check_function(residual, "newton")
  local o, given = read_newton(options, "newton")
  local u = unknowns(start, "newton")
  local w, bounds, free, base = join(u.parts), {}, nil, nil
  if given.bounds ~= nil then
    bounds = {read_bounds(u, given.bounds)}
    o.bounded = true
  end
  if given.fixed ~= nil then
    free, base = free_places(u, given.fixed), w
    w = w[free]
    for k, x in ipairs(bounds) do bounds[k] = x[free] end
  end
  local record
  for _, lambda in ipairs(read_continuation(given.continuation, "newton") or {false}) do
    local f = lambda and function(v) return residual(v, lambda) end or residual
    w, record = solve(f, u, w, o, bounds, free, base)
    if o.unchecked and lambda and not program.tracing() and record:item(1) ~= 0 then break end
  end
  return split(u, free and core.put(base, free, w) or w), report_of(record)
end

-- ---- root ----

local root_options = {iterations = true, rtol = true, check = true}

--- y with f(y) = 0 for each element of y by itself; and a report. f is elementwise in y (and may capture tensors that broadcast with
--- it); it is traced. Where to look: a bracket {lo, hi} of numbers or tensors, at whose ends f has different signs, or a start. Newton's method
--- inside the bracket, bisected where it does not help; without one, the first change of sign makes one. What f captures receives derivatives
--- by the implicit function theorem, to any order. The shape is that of f(lo).
---@param f function  y -> as many values
---@param where any  {lo, hi}, or a tensor or number to start from
---@param options? table  {iterations = 100, rtol = 4 roundings, check = true: an unsolved equation is an error}
---@return any y
---@return table report  converged, iterations, residual (the largest), evaluations
function nonlinear.root(f, where, options)
  control.check_function(f, "root")
  options = check_options(options, root_options, "root")
  local bracket = type(where) == "table" and where
  if bracket and (#bracket ~= 2 or next(bracket, 2)) or where == nil then core.fail "root needs a bracket {lo, hi} or a start" end
  local o = {iterations = check_whole(options, "root", "iterations", 100), rtol = check_number(options, "root", "rtol", 2^-50),
    unchecked = options.check == false, bracketed = bracket and true or false}
  local places = bracket or {where}
  for k, x in ipairs(places) do
    if type(x) == "number" then places[k] = core.tensor(x)
    elseif not is_tensor(x) then core.fail(("root: the %s is a number or a tensor, not %s"):format(bracket and "bracket" or "start", type(x))) end
  end
  local shape
  local function traced(list)
    return control.trace(list, #list, f, function(inputs) return inputs[1] end, function(results)
      local y = type(results[2]) == "number" and core.tensor(results[2]) or results[2]
      if not is_tensor(y) then core.fail(("root: the function returns a tensor, not %s"):format(y == nil and "nil" or type(y))) end
      shape = y.shape
      return {y}, {}
    end)
  end
  local function spread(x) return core.broadcast_to(x, shape) end
  local y0, hi = places[1], places[2]
  if hi then y0, hi = y0 + 0*hi, hi + 0*y0 end
  local body, captured, _, t = traced{y0}
  if table.concat(shape, ",") ~= table.concat(y0.shape, ",") then -- the equations have more axes than the start
    t:free()
    y0, hi = spread(y0), hi and spread(hi)
    body, captured, _, t = traced{y0}
  end
  local inputs = append({y0}, captured)
  if hi then inputs[#inputs + 1] = hi end
  return control.perform({t}, function(list) return list[1], report_of(list[2]) end, program.root, body, inputs, o)
end

-- ---- fixed_point, argmin ----

local function numbers(options, what, defaults)
  local o = {unchecked = options.check == false}
  for name, default in pairs(defaults) do
    local read = (name == "iterations" or name == "anderson") and check_whole or check_number
    o[name] = read(options, what, name, default)
  end
  return o
end

local fixed_options = {anderson = true, damping = true, rtol = true, atol = true, iterations = true, check = true, jacobian = true}

--- u with u = g(u), from a start u0, by Anderson's acceleration; and a report. u0 and g(u) are trees of the same shapes; g is traced. What g
--- captures receives derivatives by the implicit function theorem for u - g(u) = 0, to any order: one linear solve with the coloured sparse
--- Jacobian, or with jacobian = "krylov" by its products with vectors alone. anderson is how many differences are kept (0: plain iteration, at most 50),
--- damping the part of g(u) - u that is taken. It has converged when |g(u) - u| <= atol + rtol |g(u0) - u0|.
---@param g function  u -> tree
---@param start any  a number, a tensor or a tree
---@param options? table  {anderson = 5, damping = 1, rtol = 1e-12, atol = 1e-14, iterations = 200, jacobian = "krylov", check = true}
---@return any u
---@return table report  converged, iterations, residual, history, evaluations, message
function nonlinear.fixed_point(g, start, options)
  control.check_function(g, "fixed_point")
  options = check_options(options, fixed_options, "fixed_point")
  local o = numbers(options, "fixed_point", {anderson = 5, damping = 1, rtol = 1e-12, atol = 1e-14, iterations = 200})
  o.krylov = choice(options, "fixed_point", "jacobian", {krylov = true}, false)
  if o.anderson > 50 then core.fail(("fixed_point: anderson is at most 50, not %s"):format(o.anderson)) end
  local u = unknowns(start, "fixed_point")
  o.names = names_of(u.leaves, u.parts)
  local w = join(u.parts)
  local body, captured, _, t = control.trace({w}, 1, g, function(inputs) return split(u, inputs[1]) end, function(out)
    if out[2] == nil then core.fail "fixed_point: the function returns nothing" end
    local v = unknowns(out[2], "fixed_point")
    for k = 1, math.max(#u.parts, #v.parts) do
      local a, b = u.parts[k], v.parts[k]
      if not a or not b or a.count ~= b.count then
        core.fail(("fixed_point: the function takes %d numbers and returns %d: it must return what it takes"):format(u.n, v.n))
      end
    end
    return {join(v.parts)}, {}
  end)
  return control.perform({t}, function(list) return split(u, list[1]), report_of(list[2]) end, program.fixed_point, body, append({w}, captured), o)
end

local argmin_options = {rtol = true, atol = true, iterations = true, check = true}

--- With a function: the u where phi(u) is least near a start u0; and a report. phi is traced and returns one number; u0 is a tree of f64 numbers.
--- Newton's method with the sparse Hessian found from phi's program, raised to be positive definite where it is not, and backtracking. What phi
--- captures receives derivatives by the implicit function theorem for grad phi = 0, to any order. It has converged when |grad phi| <= atol +
--- rtol |grad phi at u0|. (pl.minimize fits the parameters of a model; this is for a minimum inside one.)
--- With a tensor: the 1-based place of the smallest element along an axis, as the op argmin {axis, keep}.
---@param phi any  u -> a number; or a tensor
---@param start? any  a number, a tensor or a tree
---@param options? table  {rtol = 1e-10, atol = 1e-12, iterations = 100, check = true}
---@return any u
---@return table report  converged, iterations, residual (of the gradient), history, evaluations, jacobians, message
function nonlinear.argmin(phi, start, options)
  if type(phi) ~= "function" and is_tensor(phi) then return core.argmin(phi, start) end
  control.check_function(phi, "argmin")
  options = check_options(options, argmin_options, "argmin")
  local o = numbers(options, "argmin", {rtol = 1e-10, atol = 1e-12, iterations = 100})
  local u = unknowns(start, "argmin")
  o.names = names_of(u.leaves, u.parts)
  local w = join(u.parts)
  local body, captured, _, t = control.trace({w}, 1, phi, function(inputs) return split(u, inputs[1]) end, function(out)
    local y = type(out[2]) == "number" and core.tensor(out[2]) or out[2]
    if not is_tensor(y) or y.count ~= 1 then core.fail "argmin: the function returns one number" end
    return {y.rank == 0 and y or core.reshape(y, {})}, {}
  end)
  return control.perform({t}, function(list) return split(u, list[1]), report_of(list[2]) end, program.argmin, body, append({w}, captured), o)
end

return nonlinear
