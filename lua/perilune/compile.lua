-- pl.compile: a function traced to a program once for each signature, and run in C from then on.
local core = require "perilune.core"
local control = require "perilune.control"
local bytecode = require "jit.util"
local program = core.program

local compile = {}

-- The names of the globals that f and the functions inside it read: they stand in its bytecode, where the instruction that reads one
-- is found by compiling one.
local GGET = bit.band(bytecode.funcbc(loadstring "return x", 1), 0xff)
local function globals_of(f, names)
  for pc = 1, bytecode.funcinfo(f).bytecodes - 1 do
    local instruction = bytecode.funcbc(f, pc)
    if bit.band(instruction, 0xff) == GGET then names[bytecode.funck(f, -bit.rshift(instruction, 16) - 1)] = true end
  end
  local k, constant = 1, bytecode.funck(f, -1)
  while constant ~= nil do
    if type(constant) == "proto" then globals_of(constant, names) end
    k = k + 1
    constant = bytecode.funck(f, -k)
  end
  return names
end

-- Numbers, strings, booleans, tensors, random streams and functions among the upvalues and globals of f, and of the functions among them:
-- a flat list function, index, value, ..., or environment, name, value, ...
local function upvalues_of(f)
  local list, seen = {}, {}
  local function look(g)
    local info = debug.getinfo(g, "S")
    if seen[g] then return end
    seen[g] = true
    local own = info.what == "C" or info.source:find("^@perilune:") -- grad(f), say: f is what is looked for
    for i = 1, 250 do
      local name, value = debug.getupvalue(g, i)
      if not name then break end
      local kind = type(value)
      if own then
        if kind == "function" then look(value) elseif program.is_compiled(value) then look(value:source()) end
      elseif kind == "function" or kind == "number" or kind == "string" or kind == "boolean" or kind == "userdata" then
        list[#list + 1], list[#list + 2], list[#list + 3] = g, i, value
        if kind == "function" then look(value) end
      end
    end
    if own then return end
    local environment = debug.getfenv(g)
    for name in pairs(globals_of(g, {})) do
      local value = rawget(environment, name)
      local kind = type(value)
      if kind == "number" or kind == "string" or kind == "boolean" or kind == "userdata" or (kind == "function" and debug.getinfo(value, "S").what ~= "C") then
        list[#list + 1], list[#list + 2], list[#list + 3] = environment, name, value
        if kind == "function" then look(value) end
      end
    end
  end
  if type(f) == "function" then look(f) end
  return list
end

-- Arguments of any kind as leaves (tensors and numbers) and a way to build them again.
local function pack_arguments(n, args)
  local leaves, builders = {}, {}
  for i = 1, n do
    local arg = args[i]
    if type(arg) == "table" or type(arg) == "number" or core.is_tensor(arg) then
      local offset = #leaves
      local own = {}
      -- every place is a leaf of its own here, also where one tensor stands twice
      local function walk(x, depth)
        if type(x) == "number" then own[#own + 1] = core.tensor(x); return #own end
        if core.is_tensor(x) then own[#own + 1] = x; return #own end
        if type(x) ~= "table" or depth > 100 then return nil end
        local meta = getmetatable(x)
        local form = {keys = {}, forms = {}, meta = meta, node = x}
        local function add(key, child, named)
          if meta and not (core.is_tensor(child) or (type(child) == "table" and (not named or getmetatable(child)))) then return end
          local inner = walk(child, depth + 1)
          if inner then form.keys[#form.keys + 1], form.forms[#form.forms + 1] = key, inner end
        end
        for k = 1, #x do add(k, x[k], false) end
        local names = {}
        for key in pairs(x) do if type(key) == "string" then names[#names + 1] = key end end
        table.sort(names)
        for _, key in ipairs(names) do add(key, rawget(x, key), true) end
        return form
      end
      local form = walk(arg, 0)
      for _, leaf in ipairs(own) do leaves[#leaves + 1] = leaf end
      local function build(f, inputs)
        if type(f) == "number" then return inputs[offset + f] end
        local copy = {}
        for key, child in pairs(f.node) do copy[key] = child end
        for k, key in ipairs(f.keys) do copy[key] = build(f.forms[k], inputs) end
        return f.meta and setmetatable(copy, f.meta) or copy
      end
      builders[i] = function(inputs) return build(form, inputs) end
    else
      builders[i] = function() return arg end
    end
  end
  return leaves, builders
end

-- Traces the function of a compiled one for these arguments: called from C when no program fits.
local function trace(compiled, ...)
  local n, args = select("#", ...), {...}
  local f = compiled:source()
  local leaves, builders = pack_arguments(n, args)
  local results
  local body, captured, _, t, level = control.trace(leaves, #leaves, f, function(inputs)
    local list = {}
    for i = 1, n do list[i] = builders[i](inputs) end
    return unpack(list, 1, n)
  end, function(out)
    local list = {}
    results = {n = table.maxn(out) - 1}
    -- numbers and tensors become results of the program; anything else is returned as it was
    local function walk(x)
      if type(x) == "number" then x = core.tensor(x) end
      if core.is_tensor(x) then list[#list + 1] = x; return x end
      if type(x) ~= "table" then return x end
      local copy, names = {}, {}
      local meta = getmetatable(x)
      if meta then for key, child in pairs(x) do copy[key] = child end end
      for k = 1, #x do
        local child = x[k]
        if not meta or core.is_tensor(child) or type(child) == "table" then copy[k] = walk(child) end
      end
      for key in pairs(x) do if type(key) == "string" then names[#names + 1] = key end end
      table.sort(names)
      for _, key in ipairs(names) do
        local child = rawget(x, key)
        if not meta or core.is_tensor(child) or (type(child) == "table" and getmetatable(child)) then copy[key] = walk(child) end
      end
      return meta and setmetatable(copy, meta) or copy
    end
    for i = 1, results.n do results[i] = walk(out[i + 1]) end
    return list, {}
  end)
  local cells, positions = level:per_call()
  local ok, message = pcall(program.entry, compiled, body, captured, {n = n, ...}, results, upvalues_of(f), cells, positions)
  t:free()
  if not ok then error(message, 0) end
end
program.hooks(trace, function(compiled, entry, wrt)
  control.stopped = function() return program.finish(compiled, entry, wrt) end
end)

local methods = {}

function methods.__tostring(f)
  local info = debug.getinfo(f:source(), "S")
  return ("compiled function (%s:%d)"):format(info.short_src, info.linedefined)
end

--- Shows the program for these arguments: fused units, bytes moved, operations, script lines.
function methods.print(f, ...)
  io.stdout:write(tostring(f), "\n", f:text(...))
end

--- The same as a string.
function methods.text(f, ...)
  return (f:program(...)):text()
end

program.methods(methods)

--- f traced to a program, once for each signature (trees, shapes and dtypes of its arguments), and run in C from then on, forward and
--- backward, fused: results are those of f, bit for bit. While f is traced only shapes exist: reading a value (item, print, an if on
--- it) is an error that names the line; pl.where, pl.cond, pl.scan and pl.while_loop take values into account.
---
--- It is traced again when a number, string, boolean, tensor, random stream or function among its upvalues and globals (and those of
--- functions among them) has changed. Random streams that it captured go on from call to call, as those of f would. What it cannot see:
--- contents of tables it captured, and buffers' contents other than by making them again.
---
--- The result is called like f; pl.grad, value_and_grad, jvp, hvp and minimize take it. Methods: print(...) shows the program for
--- these arguments, save(path, ...) keeps it on disk.
---@param f function
---@return any
function compile.compile(f)
  if program.is_compiled(f) then return f end
  local meta = type(f) == "table" and getmetatable(f)
  if type(f) ~= "function" and not (meta and meta.__call) then core.fail(("compile needs a function, not %s"):format(f == nil and "nil" or type(f))) end
  return program.compiled(f)
end

return compile
