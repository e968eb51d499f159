-- pl.minimize: drives the engine's optimizers over trees of parameters.
local core = require "perilune.core"
local tree = require "perilune.tree"
local derivative = require "perilune.derivative"
local control = require "perilune.control"
local compile = require("perilune.compile").compile

local own = {"bounds", "compile", "method", "progress", "stop"} -- what is no setting of a method
local methods, names = {}, {} -- name -> {name, text, settings = {names...}, has = {name = true}}
for k, method in ipairs(core.methods()) do
  local settings, has = {}, {}
  for i, setting in ipairs(method.settings) do settings[i], has[setting.name] = setting.name, true end
  names[k], methods[method.name] = method.name, {name = method.name, settings = settings, has = has}
end

local Result = {}
Result.__index = Result

local function number(x) return ("%.6g"):format(x) end

local function line_of(stage)
  return ("%s after %d iterations, %d evaluations"):format(stage.message, stage.iterations, stage.evaluations)
end

function Result:__tostring()
  local lines = {}
  if #self.stages == 1 then
    lines[1] = line_of(self)
  else
    for k, stage in ipairs(self.stages) do lines[k] = ("%s: value %s, %s"):format(stage.method, number(stage.value), line_of(stage)) end
    lines[#lines + 1] = ("%s after %d iterations, %d evaluations in all"):format(self.converged and "converged" or "ended", self.iterations, self.evaluations)
  end
  lines[#lines + 1] = ("value %s, gradient %s"):format(number(self.value), number(self.gradient_norm))
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

-- ---- options ----

local function is_one_of(list, name)
  for _, x in ipairs(list) do if x == name then return true end end
  return false
end

local function add_setting(stage, name, value)
  if type(value) == "number" then
    stage.settings[name] = value
  elseif type(value) == "function" then
    stage.schedules[name] = value
  else
    core.fail(("minimize: %s is a number, or a function of the iteration that gives one, not %s"):format(name, type(value)))
  end
end

-- A method of the list: {"adam", rate = 1e-3} or "adam".
local function stage_of(entry)
  if type(entry) == "string" then entry = {entry} end
  local method = type(entry) == "table" and methods[entry[1]]
  if not method then
    local what = entry
    if type(entry) == "table" then what = entry[1] end
    core.fail(("minimize has no method '%s'; it has %s, or a list of them: {{\"adam\", iterations = 300}, {\"lbfgs\"}}")
      :format(tostring(what), table.concat(names, ", ")))
  end
  local stage = {method = method, settings = {}, schedules = {}}
  for key, value in pairs(entry) do
    if key ~= 1 then
      if not method.has[key] then core.fail(("the method %s has no option '%s'; it has %s"):format(method.name, tostring(key), table.concat(method.settings, ", "))) end
      add_setting(stage, key, value)
    end
  end
  return stage
end

-- The stages that the options ask for. What stands beside the list of methods holds for each that has such a setting and none of its own.
local function stages_of(options)
  local list = options.method or "lbfgs"
  if type(list) ~= "table" or type(list[1]) ~= "table" then list = {list} end
  local stages = {}
  for k, entry in ipairs(list) do stages[k] = stage_of(entry) end
  for key, value in pairs(options) do
    local known = is_one_of(own, key)
    for _, stage in ipairs(known and {} or stages) do
      if stage.method.has[key] then
        known = true
        if not (stage.settings[key] or stage.schedules[key]) then add_setting(stage, key, value) end
      end
    end
    if not known then
      local valid = {unpack(own)}
      for _, stage in ipairs(stages) do
        for _, name in ipairs(stage.method.settings) do if not is_one_of(valid, name) then valid[#valid + 1] = name end end
      end
      table.sort(valid)
      core.fail(("minimize has no option '%s'; it has %s"):format(tostring(key), table.concat(valid, ", ")))
    end
  end
  if options.stop ~= nil and type(options.stop) ~= "function" then core.fail(("minimize: stop is a function of the state, not %s"):format(type(options.stop))) end
  return stages
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

-- show(it) and finish(), which write to stderr: on a terminal one line that changes, else a line an iteration.
local function reporter(progress)
  if not progress then return function() end, function() end end
  local ffi = require "ffi"
  pcall(ffi.cdef, "int isatty(int);")
  local terminal = ffi.C.isatty(2) == 1
  local start = os.clock()
  return function(it)
    local line = ("%s %d: value %s, gradient %.2e, %d evaluations, %.1f s")
      :format(it.method, it.k, number(it.value), it.gradient_norm, it.evaluations, os.clock() - start)
    if terminal then io.stderr:write("\r\27[K", line) else io.stderr:write(line, "\n") end
    io.stderr:flush()
  end, function() if terminal then io.stderr:write("\n") end end
end

local function list_of_values(t)
  local list = {}
  for k, leaf in ipairs((tree.leaves(t))) do list[k] = leaf.value end
  return list
end

--- Minimizes f over a tree of numbers, tensors and modules (networks, say), with bounds.
---
--- The method is L-BFGS, for smooth functions, or another: method = "adam", {"adam", rate = 5e-3}, or a list of them, of which each
--- begins at the best point of the one before: {{"adam", iterations = 300, rate = 5e-3}, {"lbfgs", iterations = 300}}. A method's options
--- stand in its own table, or beside `method`, where they hold for every method that has them. One may be a function of the number of
--- the method's iteration: rate = function(k) return 1e-2/k end.
---
--- Further options: bounds (a tree like the parameters with leaves {lo, hi}), progress (true: a line an iteration on stderr), stop (a
--- function of the state `it` after each iteration, true ends: it.k, it.value, it.x, it.gradient_norm, it.evaluations, it.method),
--- compile (true: f is compiled, see pl.compile).
---
--- A loss that is not finite, or in which a solve fails, shortens the step of L-BFGS and ends Adam; at the start it is an error that
--- names the op and line where it arose. The result is the lowest point seen; it prints itself.
---@param f function  loss, aux... = f(p)
---@param params any  where to start
---@param options? table
---@return table result  {x, value, gradient, gradient_norm, iterations, evaluations, converged, status, message, stages, aux, history: a list of
---   {k, value, gradient_norm, evaluations, method}}
return function(f, params, options)
  options = options or {}
  if type(f) ~= "function" and not core.program.is_compiled(f) then core.fail(("minimize needs a function, not %s"):format(type(f))) end
  if params == nil then core.fail("minimize needs parameters to start from, not nil") end
  if type(options) ~= "table" then core.fail(("minimize: the options are a table, not %s"):format(type(options))) end
  local stages = stages_of(options)
  local leaves, form = tree.leaves(params)
  if #leaves == 0 then core.fail("minimize: there are no parameters") end
  local x, index, lower, upper = {}, {}, {}, {}
  for k, leaf in ipairs(leaves) do
    x[k] = leaf.number and core.tensor(leaf.value) or leaf.value
    if x[k].dtype ~= "f64" and x[k].dtype ~= "f32" then core.fail(("the parameter %s is %s; it must be f64 or f32"):format(leaf.path, x[k].dtype)) end
    index[leaf.path], lower[k], upper[k] = k, false, false
  end
  find_bounds(params, options.bounds, "", lower, upper, index)
  if options.compile then f = compile(f) end

  local gradient = core.program.is_compiled(f) and derivative.value_and_grad(f)
  local first, lost, failure = true, nil, nil
  local function evaluate(here)
    if gradient and not first then -- all in one program
      local loss, g, a = gradient(here)
      return loss:item(), list_of_values(g), a
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

  local function as_given(list) -- numbers for numbers
    for k, leaf in ipairs(leaves) do if leaf.number then list[k] = list[k]:item() end end
    return tree.build(form, list)
  end
  local show, finish = reporter(options.progress)
  local result = setmetatable({history = {}, stages = {}, iterations = 0, evaluations = 0}, Result)
  local best, stopped = math.huge, false

  -- After an iteration (and at the start): history, progress, stop.
  local function record(opt, stage)
    local r, history = opt:report("last"), result.history
    local it = {k = result.iterations + r.iterations, value = r.value, gradient_norm = r.gradient_norm}
    it.evaluations, it.method = result.evaluations + r.evaluations, stage.method.name
    history[#history + 1] = it
    show(it)
    if not options.stop then return end
    local state = setmetatable({}, {__index = function(_, key)
      if key == "x" then return as_given(opt:x "last") end
      return it[key]
    end})
    if options.stop(state) then
      stopped = true
      opt:stop()
    end
  end

  -- One evaluation that the stage's optimizer asks for; false when it asks for none.
  local function step(opt, stage)
    local now = opt:report()
    if now.status ~= "running" then return false end
    for name, schedule in pairs(stage.schedules) do
      local v = schedule(now.iterations + 1)
      if type(v) ~= "number" then core.fail(("minimize: the schedule of %s gives %s, not a number"):format(name, type(v))) end
      opt:set(name, v)
    end
    local at = opt:ask()
    if not at then return false end
    -- each leaf keeps its shape; numbers become 0-d tensors inside f
    local begun = not first
    local ok, value, gradients, extra = pcall(evaluate, tree.build(form, at))
    if not ok and begun and core.is_failed_solve(value) then
      failure = value
      value, gradients = 0/0, {}
      for k in ipairs(leaves) do gradients[k] = core.zeros{} end
    elseif not ok then
      error(value, 0)
    end
    if value < best then best, result.aux = value, extra end
    if opt:tell(value, gradients) or #result.history == 0 then record(opt, stage) end
    return true
  end

  local opt
  local function run()
    while #result.stages < #stages and not stopped do
      local stage = stages[#result.stages + 1]
      opt = opt or core.optimizer(stage.method.name, x, lower, upper, stage.settings)
      local ok, more
      repeat
        ok, more = pcall(step, opt, stage)
        if not ok then
          -- the optimizer still waits for this evaluation: pl.resume begins it again
          if type(more) == "string" and more:find("interrupted!", 1, true) then control.stopped = run end
          error(more, 0)
        end
      until not more
      local r = opt:report()
      r.method = stage.method.name
      if failure and not r.converged then r.message = r.message .. "; a solve failed: " .. failure end
      failure = nil
      result.stages[#result.stages + 1] = r
      result.iterations, result.evaluations = result.iterations + r.iterations, result.evaluations + r.evaluations
      x, result.gradient, opt = opt:x(), opt:gradient(), nil
    end
    finish()
    local last = result.stages[#result.stages]
    for _, key in ipairs{"value", "gradient_norm", "converged", "status", "message", "step"} do result[key] = last[key] end
    result.x, result.gradient = as_given(x), as_given(result.gradient)
    if lost then result.message = result.message .. "; " .. lost end
    return result
  end
  return run()
end
