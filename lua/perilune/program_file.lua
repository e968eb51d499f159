-- Compiled functions on disk: the program and what it captured, and a description of its arguments and results as text.
local core = require "perilune.core"
local compile = require "perilune.compile"
local program = core.program

local program_file = {}

-- ---- trees as text: each value begins with its kind; strings tell their length ----

local function write(x, out)
  local kind = type(x)
  if kind == "nil" then out[#out + 1] = "-"
  elseif kind == "boolean" then out[#out + 1] = x and "t" or "f"
  elseif kind == "number" then out[#out + 1] = ("n%.17g;"):format(x)
  elseif kind == "string" then out[#out + 1] = ("s%d:%s"):format(#x, x)
  else
    out[#out + 1] = "{"
    for key, value in pairs(x) do
      write(key, out)
      write(value, out)
    end
    out[#out + 1] = "}"
  end
end

local deepest = 200

-- The value at a place of the text and the place behind it; nil for a text that is none.
local function read(text, at, depth)
  local kind = text:sub(at, at)
  at = at + 1
  if kind == "-" then return nil, at
  elseif kind == "t" or kind == "f" then return kind == "t", at
  elseif kind == "n" then
    local number, stop = text:match("^([^;]+);()", at)
    if tonumber(number) then return tonumber(number), stop end
  elseif kind == "s" then
    local n, from = text:match("^(%d+):()", at)
    n = tonumber(n)
    if n and from + n - 1 <= #text then return text:sub(from, from + n - 1), from + n end
  elseif kind == "{" and depth < deepest then
    local t = {}
    while text:sub(at, at) ~= "}" do
      local key, value
      key, at = read(text, at, depth + 1)
      if at and key ~= nil then value, at = read(text, at, depth + 1) end
      if not at or key == nil or key ~= key then return nil, nil end
      t[key] = value
    end
    return t, at + 1
  end
  return nil, nil
end

-- ---- forms: {leaf = its number, number =} or {keys =, children =} or {value = anything else} ----

local function form_of(x, leaves, path)
  if type(x) == "number" or core.is_tensor(x) then
    leaves.n = leaves.n + 1
    local number = type(x) == "number"
    return {leaf = leaves.n, number = number, dtype = number and "f64" or x.dtype, shape = number and {} or x.shape}
  elseif type(x) == "table" then
    local meta, form, names = getmetatable(x), {keys = {}, children = {}}, {}
    local function add(key, child, named)
      if meta and not (core.is_tensor(child) or (type(child) == "table" and (not named or getmetatable(child)))) then return end
      form.keys[#form.keys + 1] = key
      form.children[#form.keys] = form_of(child, leaves, ("%s[%s]"):format(path, tostring(key)))
    end
    for k = 1, #x do add(k, x[k], false) end
    for key in pairs(x) do if type(key) == "string" then names[#names + 1] = key end end
    table.sort(names)
    for _, key in ipairs(names) do add(key, rawget(x, key), true) end
    return form
  elseif x ~= nil and type(x) ~= "string" and type(x) ~= "boolean" then
    core.fail(("save: %s is a %s, which a file cannot hold"):format(path, type(x)))
  end
  return {value = x}
end

local function collect(form, x, list, path)
  if form.leaf then
    if type(x) == "number" then x = core.tensor(x) end
    if not core.is_tensor(x) then
      core.fail(("%s must be a %s of shape {%s}, not %s"):format(path, form.number and "number" or form.dtype, table.concat(form.shape, ", "), type(x)))
    end
    if x.dtype ~= form.dtype or table.concat(x.shape, ",") ~= table.concat(form.shape, ",") then
      core.fail(("%s is %s of shape {%s}; the program was made for %s of shape {%s}"):format(path, x.dtype, table.concat(x.shape, ", "), form.dtype,
        table.concat(form.shape, ", ")))
    end
    list[form.leaf] = x
  elseif form.keys then
    if type(x) ~= "table" then core.fail(("%s must be a table, not %s"):format(path, x == nil and "nil" or type(x))) end
    for k, key in ipairs(form.keys) do
      collect(form.children[k], x[key], list, type(key) == "number" and ("%s[%d]"):format(path, key) or path .. "." .. key)
    end
  elseif x ~= form.value then
    core.fail(("%s must be %s, as when the program was made, not %s"):format(path, tostring(form.value), tostring(x)))
  end
end

local function build(form, list)
  if form.leaf then return list[form.leaf] end
  if not form.keys then return form.value end
  local copy = {}
  for k, key in ipairs(form.keys) do copy[key] = build(form.children[k], list) end
  return copy
end

local function save(f, path, ...)
  local body, inputs, n = f:program(...)
  local captured = {}
  for k = n + 1, #inputs do captured[k - n] = inputs[k] end
  local arguments, results, leaves = {n = select("#", ...)}, {}, {n = 0}
  for k = 1, arguments.n do arguments[k] = form_of((select(k, ...)), leaves, "argument " .. k) end
  local out = {f:results(...)}
  results.n, leaves = out[1], {n = 0}
  for k = 1, results.n do results[k] = form_of(out[k + 1], leaves, "result " .. k) end
  local text = {}
  write({arguments = arguments, results = results}, text)
  body:save(path, captured, table.concat(text))
end
program.methods{save = save}

local function well_formed(form, most, depth)
  if type(form) ~= "table" or depth > 100 then return false end
  if form.leaf then
    local k = form.leaf
    if type(k) ~= "number" or k < 1 or k > most or k ~= math.floor(k) or type(form.shape) ~= "table" or type(form.dtype) ~= "string" then return false end
    for _, extent in pairs(form.shape) do if type(extent) ~= "number" then return false end end
    return true
  end
  if not form.keys then return true end
  if type(form.keys) ~= "table" or type(form.children) ~= "table" then return false end
  for k, key in ipairs(form.keys) do
    if (type(key) ~= "number" and type(key) ~= "string") or not well_formed(form.children[k], most, depth + 1) then return false end
  end
  return true
end

local function list_formed(list, most)
  if type(list) ~= "table" or type(list.n) ~= "number" or list.n < 0 or list.n > 250 then return false end
  for k = 1, list.n do if not well_formed(list[k], most, 0) then return false end end
  return true
end

--- A program that compiled:save(path, ...) has kept, as a compiled function: of arguments like those it was saved for, with the results
--- it had, bit for bit; grad, jvp, minimize, print and save take it. The file holds no code: ops of C files must have been loaded with
--- pl.load_op, and Lua-defined ones defined, under the names they had.
---@param path string
---@return any
function program_file.load_program(path)
  local body, captured, text = program.load(path)
  local forms = read(text, 1, 0)
  local n_in, n_out = body:size()
  if type(forms) ~= "table" or not list_formed(forms.arguments, n_in - #captured) or not list_formed(forms.results, n_out) then
    core.fail(("'%s' holds a program, but not one that a compiled function's save has written"):format(path))
  end
  local arguments, results = forms.arguments, forms.results
  return compile.compile(function(...)
    if select("#", ...) ~= arguments.n then core.fail(("the program takes %d arguments, not %d"):format(arguments.n, select("#", ...))) end
    local list = {}
    for k = 1, arguments.n do collect(arguments[k], (select(k, ...)), list, "argument " .. k) end
    for _, x in ipairs(captured) do list[#list + 1] = x end
    if #list ~= n_in then core.fail(("the program takes %d inputs; its arguments and what it captured are %d"):format(n_in, #list)) end
    local values, out = body:inline(list), {}
    for k = 1, results.n do out[k] = build(results[k], values) end
    return unpack(out, 1, results.n)
  end)
end

return program_file
