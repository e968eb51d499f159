-- pl.minimize: drives the engine's optimizers over trees of parameters.
local core = require "perilune.core"
local tree = require "perilune.tree"
local derivative = require "perilune.derivative"
local control = require "perilune.control"
local compile = require("perilune.compile").compile

local valid = {"atol", "bounds", "compile", "evaluations", "iterations", "memory", "method", "progress", "rtol", "stop"}

local Result = {}
Result.__index = Result

local function number(x) return ("%.6g"):format(x) end

function Result:__tostring()
  local lines = {("%s after %d iterations, %d evaluations"):format(self.message, self.iterations, self.evaluations),
    ("value %s, gradient %s"):format(number(self.value), number(self.gradient_norm))}
  for _, leaf in ipairs((tree.leaves(self.x))) do
    local v = leaf.value
    local text
    if leaf.number then
      text = ("%.10g"):format(v)
    elseif v.rank == 0 then
      text = ("%.10g"):format(v:item())
    else
      text = ("%s {%s}"):format(v.dtype, table.concat(v.shape, ", "))
    end
    lines[#lines + 1] = ("  %s = %s"):format(leaf.path == "" and "x" or leaf.path, text)
  end
  return table.concat(lines, "\n")
end

local function check_options(options)
  for key in pairs(options) do
    local known = false
    for _, name in ipairs(valid) do known = known or name == key end
    if not known then core.fail(("minimize has no option '%s'; it has %s"):format(tostring(key), table.concat(valid, ", "))) end
  end
  if options.method and options.method ~= "lbfgs" then core.fail(("minimize has no method '%s'; it has lbfgs"):format(tostring(options.method))) end
  for _, name in ipairs{"atol", "rtol", "iterations", "evaluations", "memory"} do
    local v = options[name]
    if v ~= nil and (type(v) ~= "number" or v < 0 or v ~= v) then core.fail(("minimize: %s must be a number, 0 or more"):format(name)) end
  end
end

-- The bounds tree walked beside the parameters: leaves {lo, hi}, either may be missing.
local function find_bounds(node, bounds, path, lower, upper, index)
  if bounds == nil then return end
  if type(node) == "number" or core.is_tensor(node) then
    if type(bounds) ~= "table" then core.fail(("the bounds of %s must be {lo, hi}"):format(path == "" and "x" or path)) end
    for key in pairs(bounds) do
      if key ~= 1 and key ~= 2 then core.fail(("the bounds of %s must be {lo, hi}"):format(path == "" and "x" or path)) end
    end
    local k = index[path]
    if k then lower[k], upper[k] = bounds[1] or false, bounds[2] or false end
    return
  end
  if type(bounds) ~= "table" then core.fail(("the bounds of %s must be a tree like the parameters"):format(path == "" and "x" or path)) end
  for key, child in pairs(bounds) do
    if node[key] == nil then core.fail(("there are bounds for %s, but no such parameter"):format(path == "" and tostring(key) or path .. "." .. tostring(key))) end
    local below = type(key) == "number" and ("%s[%d]"):format(path, key) or path == "" and key or path .. "." .. key
    find_bounds(node[key], child, below, lower, upper, index)
  end
end

local function reporter(progress)
  if not progress then return function() end, function() end end
  local ffi = require "ffi"
  pcall(ffi.cdef, "int isatty(int);")
  local terminal = ffi.C.isatty(2) == 1
  local start = os.clock()
  local function line(r)
    return ("iteration %d: value %s, gradient %.2e, %d evaluations, %.1f s"):format(r.iterations, number(r.value), r.gradient_norm, r.evaluations, os.clock() - start)
  end
  return function(r)
    if terminal then io.stderr:write("\r\27[K", line(r)) else io.stderr:write(line(r), "\n") end
    io.stderr:flush()
  end, function() if terminal then io.stderr:write("\n") end end
end

--- Minimizes f over a tree of numbers and tensors by L-BFGS, with bounds.
---
--- Options: bounds (a tree like the parameters with leaves {lo, hi}), iterations (1000), evaluations (10 an iteration), rtol (stop
--- when an iteration lowers the value by less than rtol*|value|; 1e-12), atol (stop when the projected gradient's largest entry is
--- at most this; 1e-12), memory (pairs kept; 10), progress (true: a line an iteration on stderr), stop (a function of the state,
--- true ends), method ("lbfgs"), compile (true: f is compiled, see pl.compile).
---
--- A loss that is not finite shortens the step; at the start it is an error that names the op and line where it arose.
---@param f function  loss, aux... = f(p)
---@param params any  where to start
---@param options? table
---@return table result  {x, value, gradient, iterations, evaluations, converged, status, message, history, aux}
return function(f, params, options)
  options = options or {}
  if type(f) ~= "function" and not core.program.is_compiled(f) then core.fail(("minimize needs a function, not %s"):format(type(f))) end
  if params == nil then core.fail("minimize needs parameters to start from, not nil") end
  check_options(options)
  local leaves, form = tree.leaves(params)
  if #leaves == 0 then core.fail("minimize: there are no parameters") end
  local start, index, lower, upper = {}, {}, {}, {}
  for k, leaf in ipairs(leaves) do
    start[k] = leaf.number and core.tensor(leaf.value) or leaf.value
    if start[k].dtype ~= "f64" and start[k].dtype ~= "f32" then core.fail(("the parameter %s is %s; it must be f64 or f32"):format(leaf.path, start[k].dtype)) end
    index[leaf.path], lower[k], upper[k] = k, false, false
  end
  find_bounds(params, options.bounds, "", lower, upper, index)
  local opt = core.lbfgs(start, lower, upper, options)
  local show, finish = reporter(options.progress)
  local history, aux, best, lost = {}, nil, math.huge, nil
  if options.compile then f = compile(f) end
  local gradient = core.program.is_compiled(f) and derivative.value_and_grad(f)
  local first = true
  local function evaluate(here)
    if gradient and not first then -- all in one program
      local loss, g, a = gradient(here)
      local list = {}
      for k, leaf in ipairs((tree.leaves(g))) do list[k] = leaf.value end
      return loss:item(), list, a
    end
    local loss, gradients, out, _, _, unreached = derivative.evaluate(f, here, 1, here)
    if first and loss:item() - loss:item() ~= 0 then
      core.fail(("minimize: the loss is not finite at the start: %s"):format(derivative.first_nan(f, here) or "the loss itself is not finite"))
    end
    if first and unreached then
      lost = unreached
      io.stderr:write("perilune: ", unreached, "\n")
    end
    first = false
    return loss:item(), gradients, out[3]
  end
  local function run()
    while true do
      local x = opt:ask()
      if not x then break end
      -- each leaf keeps its shape; numbers become 0-d tensors inside f
      local ok, value, gradients, extra = pcall(evaluate, tree.build(form, x))
      if not ok then
        -- the optimizer still waits for this evaluation: pl.resume begins it again
        if type(value) == "string" and value:find("interrupted!", 1, true) then control.stopped = run end
        error(value, 0)
      end
      if value < best then best, aux = value, extra end
      local stepped = opt:tell(value, gradients)
      if stepped or #history == 0 then
        local r = opt:report()
        history[#history + 1] = {iteration = r.iterations, value = r.value, gradient_norm = r.gradient_norm, evaluations = r.evaluations}
        show(r)
        if options.stop and options.stop(history[#history]) then opt:stop() end
      end
    end
    finish()
    local result = setmetatable(opt:report(), Result)
    local x, g = opt:x(), opt:gradient()
    for k, leaf in ipairs(leaves) do
      if leaf.number then x[k], g[k] = x[k]:item(), g[k]:item() end
    end
    result.x, result.gradient = tree.build(form, x), tree.build(form, g)
    result.history, result.aux = history, aux
    if lost then result.message = result.message .. "; " .. lost end
    return result
  end
  return run()
end
