-- pl.help: what the op table and the comments above the language's functions say.
local core = require "perilune.core"

-- What is made in C.
local makers = {
  tensor = "(values, {dtype})\nOf a number or nested lists of numbers or booleans; f64, bool, or {dtype = \"f32\" | \"i64\"}.",
  zeros = "(n, m, ...)  or ({n, m, ...}, {dtype})\nAll 0; without sizes a single number.",
  ones = "(n, m, ...)  or ({n, m, ...}, {dtype})\nAll 1.",
  full = "({n, m, ...}, value, {dtype})\nAll of one value.",
  arange = "(first, last, step)\nfirst, first + step, ... not beyond last: ranges include their ends. f64 but for {dtype = \"i64\"}.",
  linspace = "(first, last, n)\nn numbers evenly spaced from first to last.",
  eye = "(n, m)\nOnes on the diagonal.",
  buffer = "{n, m, ...}\nA mutable array, filled in loops: b[i] = x, b:set(i, j, x), b:pointer() for FFI; b:tensor() freezes it.",
  ix = "(i, j, ...)\nThe product of index lists: t(pl.ix(i, j)) is {#i, #j}.",
  is_tensor = "(x)\nIs it a tensor?",
  is_buffer = "(x)\nIs it a buffer?",
}

local function of_op(name)
  local h = core.op_help(name)
  if not h then return nil end
  local options = #h.attributes > 0 and "   {" .. table.concat(h.attributes, ", ") .. "}" or ""
  local lines = {("%s: %s%s"):format(name, h.formula, options)}
  for _, field in ipairs {"shapes", "derivative", "accuracy", "source"} do
    if h[field] then lines[#lines + 1] = ("  %s: %s"):format(field, h[field]) end
  end
  return table.concat(lines, "\n")
end

-- The comment block above a function of the language, behind the line that defines it.
local function of_function(name, f)
  local info = debug.getinfo(f, "S")
  local module = info.source:match("^@perilune:(.*)")
  local text = module and core.module_text(module)
  if not text then return nil end
  local lines, block = {}, {}
  for line in (text .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  for k = info.linedefined - 1, 1, -1 do
    local comment = lines[k]:match("^%s*%-%-%-(.*)")
    if not comment then break end
    comment = comment:gsub("^ ", ""):gsub("^@param%s+", "  "):gsub("^@return%s+", "  returns ")
    table.insert(block, 1, comment)
  end
  local arguments = (lines[info.linedefined]:match("function.-(%b())") or "(...)"):gsub("^%(_, ", "(")
  table.insert(block, 1, "pl." .. name .. arguments)
  return table.concat(block, "\n")
end

-- The methods of pl.minimize and their options, as their rows say.
local function of_methods()
  local lines = {"", "Methods and their options:"}
  for _, method in ipairs(core.methods()) do
    lines[#lines + 1] = ("  %s: %s"):format(method.name, method.text)
    for _, s in ipairs(method.settings) do lines[#lines + 1] = ("    %s%s: %s"):format(s.name, s.value and (" (%g)"):format(s.value) or "", s.text) end
  end
  return table.concat(lines, "\n")
end

local help = {}

-- What there is to say of a name within pl ("scan", "sparse.diags"), or nil.
function help.text(pl, name)
  local at = pl
  for part in name:gmatch("[^.]+") do
    local found, value = pcall(function() return at[part] end) -- modules are loaded when they are first named
    at = found and value or nil
  end
  local meta = type(at) == "table" and getmetatable(at)
  if meta and meta.__call then at = meta.__call end
  if name == "minimize" then return of_function(name, at) .. "\n" .. of_methods() end
  return makers[name] and "pl." .. name .. makers[name] or type(at) == "function" and of_function(name, at) or of_op(name)
end

return help
