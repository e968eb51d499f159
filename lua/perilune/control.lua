-- Loops and branches as programs: scan, while_loop, cond, checkpoint. The functions given are traced once a call: only shapes
-- exist while they run.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local tree = require "perilune.tree"
local rng = require "perilune.rng"
local program = core.program

local control = {}
local is_tensor = core.is_tensor

local function check_function(f, what)
  local meta = type(f) == "table" and getmetatable(f)
  if type(f) ~= "function" and not (meta and meta.__call) then core.fail(("%s needs a function, not %s"):format(what, f == nil and "nil" or type(f))) end
end

local function tensors(leaves)
  local list = {}
  for k, leaf in ipairs(leaves) do list[k] = leaf.number and core.tensor(leaf.value) or leaf.value end
  return list
end

-- The leaves of each of the results out[2] ... (core.call's), one list; their forms and where each begins.
local function flatten(out, first, list)
  local forms = {}
  for k = first, table.maxn(out) do
    local leaves, form = tree.leaves(out[k])
    -- a leaf keeps its number within its own tree: remember the offset
    forms[#forms + 1] = {form = form, offset = #list, n = #leaves}
    for _, value in ipairs(tensors(leaves)) do list[#list + 1] = value end
  end
  return forms
end

local function part(list, offset, n)
  local values = {}
  for k = 1, n do values[k] = list[offset + k] end
  return values
end
control.part, control.flatten, control.tensors = part, flatten, tensors

-- Traces f(inputs...) made by `arguments` from the traced inputs; returns the program, what it captured, forms, the trace to be
-- freed, and its level of random streams. Errors free it. steps, for what runs again and again: {n = how often, carry = flag}; if
-- random numbers are drawn (level:counts()), the program has a further given input behind the models, the number of the run from 0
-- on (i64, 0-d), and where it is carried, the next one as a further result.
local function trace(models, rows, f, arguments, results, steps)
  if steps then
    local more = {unpack(models)}
    more[#more + 1] = rows < #models and core.zeros{1, dtype = "i64"} or core.zeros{dtype = "i64"}
    if rows == #models then rows = rows + 1 end
    models = more
  end
  local t, inputs = program.open(models, rows)
  local level = rng.enter(t, steps and table.remove(inputs), steps and steps.n)
  local function give_up(message)
    level:rewind()
    t:free()
    error(message, 0)
  end
  local out = {core.call(f, arguments(inputs))}
  if not out[1] then give_up(out[2]) end
  local ok, list, forms = pcall(results, out)
  if not ok then give_up(list) end
  local closed, body, captured = pcall(function()
    level:leave()
    if steps and not level:counts() then t:drop() end
    if steps and steps.carry and level:counts() then list[#list + 1] = level.step + 1 end
    return t:close(list)
  end)
  if not closed then give_up(body) end
  return body, captured, forms, t, level
end
control.trace = trace

-- Runs a control op: run(...) gives the list of its results, of which build makes what the caller gets. The traces are freed. An
-- interrupted run can be continued by pl.resume.
local function perform(traces, build, run, ...)
  local before = program.suspended()
  local ok, list = pcall(run, ...)
  for _, t in ipairs(traces) do t:free() end
  if ok then return build(list) end
  if program.suspended() ~= before then
    local function go_on()
      local now = program.suspended()
      local done, more = pcall(program.continue)
      if not done then
        if program.suspended() == now then control.stopped = go_on end
        error(more, 0)
      end
      return build(more)
    end
    control.stopped = go_on
  end
  error(list, 0)
end
control.perform = perform

control.perform = perform

--- Goes on where Ctrl-C stopped a compiled function, a loop or a minimization, to the same bits; returns what that would have.
function control.resume()
  local go_on = control.stopped
  if not go_on then core.fail "there is nothing to resume: only compiled functions, scan, while_loop and minimize can go on where they were stopped" end
  control.stopped = nil
  return go_on()
end

local function append(list, more)
  for _, v in ipairs(more) do list[#list + 1] = v end
  return list
end

control.append = append

local units = {B = 1, KB = 1e3, MB = 1e6, GB = 1e9, TB = 1e12}
local function bytes_of(x, what)
  if type(x) == "number" and x > 0 then return x end
  local number, unit = tostring(x):match("^%s*([%d.]+)%s*([KMGT]?B)%s*$")
  if not number then core.fail(("%s: memory is a number of bytes or \"200MB\", not %s"):format(what, tostring(x))) end
  return tonumber(number)*units[unit]
end

control.bytes_of, control.check_function = bytes_of, check_function

-- ---- scan ----

local function prepare(step, state, xs, options)
  check_function(step, "scan")
  options = check_options(options, {checkpoints = true, memory = true, disk = true}, "scan")
  if state == nil then core.fail "scan needs a state to start from, not nil" end
  local state_leaves, state_form = tree.leaves(state)
  local models = tensors(state_leaves)
  local n_state, length, x_form, n_x = #models, nil, nil, nil
  if type(xs) == "number" then
    if xs ~= math.floor(xs) or xs < 0 then core.fail(("scan: %s is no number of steps"):format(tostring(xs))) end
    length = xs
    models[n_state + 1] = core.arange(1, xs, {dtype = "i64"})
    x_form, n_x = 1, 1
  elseif xs == nil then
    core.fail "scan needs a number of steps, or tensors to walk along their first axis"
  else
    local leaves, form = tree.leaves(xs)
    if #leaves == 0 then core.fail "scan: there is nothing to walk along" end
    for _, leaf in ipairs(leaves) do
      if leaf.number or leaf.value.rank == 0 then
        core.fail(("scan: %s is a number; what is walked along has a first axis"):format(leaf.path == "" and "the input" or leaf.path))
      end
      length = length or leaf.value.shape[1]
      if leaf.value.shape[1] ~= length then core.fail(("scan: first axes of %d and %d entries"):format(length, leaf.value.shape[1])) end
    end
    x_form, n_x = form, #leaves
    append(models, tensors(leaves))
  end
  local body, captured, forms, t, level = trace(models, n_state, step, function(inputs)
    return tree.build(state_form, part(inputs, 0, n_state)), tree.build(x_form, part(inputs, n_state, n_x))
  end, function(out)
    if out[2] == nil then core.fail "scan: the step returns nothing; it returns the new state, and perhaps what to keep of each step" end
    local list = {}
    local all = flatten(out, 2, list)
    if all[1].n ~= n_state then core.fail(("scan: the step takes a state of %d parts and returns one of %d"):format(n_state, all[1].n)) end
    for k = 1, n_state do -- a number in the state keeps the state's dtype
      if list[k].dtype ~= models[k].dtype and list[k].rank == models[k].rank and models[k].dtype == "f64" then list[k] = list[k]:to "f64" end
    end
    return list, all
  end, {n = length})
  if level:counts() then
    n_x = n_x + 1
    models[n_state + n_x] = core.arange(0, length - 1, {dtype = "i64"})
  end
  return {body = body, inputs = append(models, captured), n_state = n_state, n_x = n_x, length = length, forms = forms, state_form = state_form,
    trace = t, level = level, options = options}
end

local function size_of(t) return t.count*(t.dtype == "f32" and 4 or t.dtype == "bool" and 1 or 8) end

-- How many checkpoints the options ask for: 0 stores all.
local function checkpoints_of(p)
  local o, n = p.options, 0
  local bytes = 0
  for k = 1, p.n_state do bytes = bytes + size_of(p.inputs[k]) end
  if o.checkpoints then
    if type(o.checkpoints) ~= "number" or o.checkpoints < 1 or o.checkpoints ~= math.floor(o.checkpoints) then
      core.fail(("scan: checkpoints must be a whole number, 1 or more, not %s"):format(tostring(o.checkpoints)))
    end
    n = o.checkpoints
  elseif o.memory then
    local memory = bytes_of(o.memory, "scan")
    if bytes*p.length > memory then n = math.max(1, math.floor(memory/math.max(bytes, 1))) end
  end
  if o.disk ~= nil then
    if type(o.disk) ~= "string" or o.disk == "" or #o.disk > 4096 or o.disk:find("%z") then
      local what = type(o.disk) == "string" and ("%q"):format(o.disk) or type(o.disk)
      core.fail(("scan: disk is the name of a folder, or how the name of a file begins, not %s"):format(what))
    end
    if not o.memory and not o.checkpoints then core.fail "scan: with disk, say how much stays in memory: {memory = \"200MB\", disk = folder}" end
  end
  return n < p.length and n or 0, bytes
end

local function run(step, state, xs, options)
  local p = prepare(step, state, xs, options)
  local checkpoints = checkpoints_of(p)
  return perform({p.trace}, function(list)
    local results = {tree.build(p.state_form, part(list, 0, p.n_state))}
    for k = 2, #p.forms do results[k] = tree.build(p.forms[k].form, part(list, p.forms[k].offset, p.forms[k].n)) end
    return unpack(results, 1, #p.forms)
  end, program.scan, p.body, p.inputs, p.n_state, p.n_x, p.length, checkpoints, p.options.disk)
end

-- Forward steps that the optimal schedule takes to reverse n steps with s checkpoints (the sum it minimizes, by its own splits).
local function forward_steps(n, s)
  local total, stack, hi = 0, {0}, n
  while hi > 0 do
    local lo = stack[#stack]
    if lo == hi - 1 then
      hi = hi - 1
      while #stack > 0 and stack[#stack] >= hi do stack[#stack] = nil end
    else
      local free = s - #stack
      if free > 0 then
        local m = program.split(hi - lo, free)
        total = total + m
        stack[#stack + 1] = lo + m
      else
        total = total + hi - 1 - lo
        hi = hi - 1
        while #stack > 0 and stack[#stack] >= hi do stack[#stack] = nil end
      end
    end
  end
  return total
end

local Plan = {}
Plan.__index = Plan
function Plan:__tostring()
  return ("%d steps, state of %.4g MB: %s, peak %.4g MB, %.2f forward steps for each"):format(self.steps, self.state_bytes/1e6,
    self.checkpoints == 0 and "all stored" or self.disk_bytes > 0 and ("every %d on disk (%.4g MB)"):format(self.checkpoints, self.disk_bytes/1e6)
      or ("%d checkpoints"):format(self.checkpoints), self.peak_bytes/1e6, self.recomputation)
end

control.scan = setmetatable({}, {
  --- A loop: state, y... = step(state, x), n times, or along the first axis of xs (a tensor or a
  --- tree of them); with a number, x is the step's number, 1 to n, a 0-d i64 tensor. State, inputs and outputs are trees. Returns the
  --- final state, and each y stacked along a new first axis. The step is traced once.
  ---
  --- Its gradient stores what the step's derivative reads. Options bound that: memory ("200MB" or bytes: when the states would take more,
  --- the optimal binomial schedule of checkpoints computes them again), checkpoints (a number of them), disk (a folder, or how the name
  --- of a file begins; with memory: states at every so many steps go to a file there, which vanishes with the gradient, and each step is
  --- computed once more; as many states as fit the memory are in it at a time). The gradient is the same, bit for bit.
  --- pl.scan:plan(step, state, n | xs, options) tells the predicted peak memory, bytes on disk and recomputation.
  ---@param step function
  ---@param state any  tree
  ---@param xs any  a number of steps, or a tree of tensors whose first axis is walked along
  ---@param options? table  {memory, checkpoints, disk}
  ---@return any ...
  __call = function(_, step, state, xs, options) return run(step, state, xs, options) end,
  __index = {
    plan = function(_, step, state, xs, options)
      local p = prepare(step, state, xs, options)
      p.trace:free()
      p.level:rewind()
      local checkpoints, bytes = checkpoints_of(p)
      local n = p.length
      local plan = {steps = n, state_bytes = bytes, checkpoints = checkpoints, peak_bytes = bytes*(checkpoints == 0 and n or checkpoints + 2), disk_bytes = 0}
      if checkpoints > 0 and p.options.disk then
        local segments = math.ceil(n/checkpoints)
        plan.disk_bytes, plan.recomputation = bytes*segments, 2 - segments/n
      else
        plan.recomputation = n == 0 and 0 or checkpoints == 0 and 1 or 1 + forward_steps(n, checkpoints)/n
      end
      return setmetatable(plan, Plan)
    end,
  },
})

-- ---- while, cond, checkpoint ----

-- What makes the results of a function from the list of its leaves.
local function builder(forms)
  return function(list)
    local out = {}
    for k, f in ipairs(forms) do out[k] = tree.build(f.form, part(list, f.offset, f.n)) end
    return unpack(out, 1, #forms)
  end
end

-- A program of models and captured values that has the last model, the number of the step, as a further input, and where it is
-- carried, the next one as a result. What that captures goes behind the captured values.
local function counted(body, models, captured, carry, traces)
  local n, all = #models, append({unpack(models)}, captured)
  local t, inputs = program.open(all, #all)
  traces[#traces + 1] = t
  local step = table.remove(inputs, n)
  local results = body:inline(inputs)
  if carry then results[#results + 1] = step + 1 end
  local whole, more = t:close(results)
  append(captured, more)
  return whole
end

--- state = step(state) while condition(state) holds (a 0-d bool); both are traced once. Returns the final state and the number of steps.
---@param condition function
---@param step function
---@param state any  a tree
---@param options? table  {iterations = 100000: more is an error, memory: for the states of the reverse sweep}
---@return any state
---@return any steps  0-d i64
function control.while_loop(condition, step, state, options)
  check_function(condition, "while_loop")
  check_function(step, "while_loop")
  options = check_options(options, {iterations = true, memory = true}, "while_loop")
  local leaves, form = tree.leaves(state)
  local models = tensors(leaves)
  local n, limit = #models, options.iterations or 100000
  local function arguments(inputs) return tree.build(form, inputs) end
  local body, captured, _, t1, level1 = trace(models, n, step, arguments, function(out)
    local list = {}
    local forms = flatten({nil, out[2]}, 2, list)
    if forms[1].n ~= n then core.fail(("while_loop: the step takes a state of %d parts and returns one of %d"):format(n, forms[1].n)) end
    return list, forms
  end, {n = limit, carry = true})
  local function condition_of(out)
    local value = out[2]
    if type(value) == "boolean" then value = core.tensor(value) end
    if not is_tensor(value) then core.fail(("while_loop: the condition must return a comparison's result, not %s"):format(type(value))) end
    return {value}
  end
  local ok, cond, cond_captured, _, t2, level2 = pcall(trace, models, n, condition, arguments, condition_of, {n = limit + 1})
  if not ok then
    t1:free()
    error(cond, 0)
  end
  local counts, traces = level1:counts() or level2:counts(), {t1, t2}
  if counts then -- the number of the step is a part of the state
    models[n + 1] = core.zeros{dtype = "i64"}
    if not level1:counts() then body = counted(body, models, captured, true, traces) end
    if not level2:counts() then cond = counted(cond, models, cond_captured, false, traces) end
  end
  local inputs = append(append(models, cond_captured), captured)
  local memory = options.memory and bytes_of(options.memory, "while_loop") or 0
  return perform(traces, function(list) return tree.build(form, part(list, 0, n)), list[#list] end,
    program.loop, cond, body, inputs, counts and n + 1 or n, #cond_captured, limit, memory)
end

--- yes(...) where the 0-d bool holds, else no(...). Both are traced, one is run. They return trees of the same shapes.
---@param condition any  a comparison's result with one element
---@param yes function
---@param no function
function control.cond(condition, yes, no, ...)
  check_function(yes, "cond")
  check_function(no, "cond")
  if type(condition) == "boolean" then condition = core.tensor(condition) end
  if not is_tensor(condition) then core.fail(("cond: the condition must be a comparison's result, not %s"):format(condition == nil and "nil" or type(condition))) end
  local args = {n = select("#", ...), ...}
  local function arguments() return unpack(args, 1, args.n) end
  local function results(out)
    local list = {}
    local forms = flatten(out, 2, list)
    return list, forms
  end
  local a, captured_a, forms, t1 = trace({}, 0, yes, arguments, results)
  local ok, b, captured_b, _, t2 = pcall(trace, {}, 0, no, arguments, results)
  if not ok then
    t1:free()
    error(b, 0)
  end
  return perform({t1, t2}, builder(forms), program.cond, a, b, append(append({condition}, captured_a), captured_b))
end

--- The function f, whose intermediate values are computed again in the reverse sweep instead of being stored.
---@param f function
---@return function
function control.checkpoint(f)
  check_function(f, "checkpoint")
  return function(...)
    local args = {n = select("#", ...), ...}
    local body, captured, forms, t = trace({}, 0, f, function() return unpack(args, 1, args.n) end, function(out)
      local list = {}
      local all = flatten(out, 2, list)
      return list, all
    end)
    return perform({t}, builder(forms), program.call, body, captured, true)
  end
end

return control
