-- Files: npy (NumPy's format 1.0 and 2.0) and csv.
local core = require "perilune.core"

local files = {}

local function open(path, mode)
  local file, why = io.open(path, mode)
  if not file then core.fail(("cannot open %s: %s"):format(path, why)) end
  return file
end

-- Written beside it and moved into place: a file is never half written.
local function replace(path, bytes)
  local part = path .. ".part"
  local file = open(part, "wb")
  local ok, why = file:write(bytes)
  if ok then ok, why = file:close() end
  if ok then ok, why = os.rename(part, path) end
  if not ok then
    os.remove(part)
    core.fail(("cannot write %s: %s"):format(path, why))
  end
end

local npy_types = {["<f8"] = "f64", ["<f4"] = "f32", ["<i8"] = "i64", ["|b1"] = "bool"}
local type_names = {f64 = "<f8", f32 = "<f4", i64 = "<i8", bool = "|b1"}

local function load_npy(path)
  local file = open(path, "rb")
  local text = file:read("*a")
  file:close()
  local function bad(why) core.fail(("%s is no npy file that can be read: %s"):format(path, why)) end
  if text:sub(1, 6) ~= "\147NUMPY" then bad("its first bytes are wrong") end
  local major = text:byte(7)
  local from, length
  if major == 1 and #text >= 10 then
    from, length = 11, text:byte(9) + 256*text:byte(10)
  elseif (major == 2 or major == 3) and #text >= 12 then
    from, length = 13, text:byte(9) + 256*text:byte(10) + 65536*text:byte(11) + 16777216*text:byte(12)
  else
    bad("its version is unknown, or it is cut off")
  end
  local header = text:sub(from, from + length - 1)
  if #header ~= length then bad("it is cut off in the header") end
  local descr = header:match("'descr':%s*'([^']*)'")
  local order, list = header:match("'fortran_order':%s*(%a+)"), header:match("'shape':%s*%(([^)]*)%)")
  if not descr or not order or not list then bad("its header is not understood") end
  local dtype = npy_types[descr]
  if not dtype then bad(("its dtype is %s; <f8, <f4, <i8 and |b1 can be read"):format(descr)) end
  local shape, size = {}, descr == "|b1" and 1 or tonumber(descr:sub(3))
  local bytes = size
  for n in list:gmatch("%d+") do
    shape[#shape + 1] = tonumber(n)
    bytes = bytes*tonumber(n)
  end
  local body = text:sub(from + length)
  if #body ~= bytes then bad(("it holds %d bytes of data, its header says %d"):format(#body, bytes)) end
  if order == "True" and #shape > 1 then
    local reversed = {}
    for k = 1, #shape do reversed[k] = shape[#shape + 1 - k] end
    return core.transpose(core.from_bytes(body, dtype, reversed))
  end
  return core.from_bytes(body, dtype, shape)
end

local function save_npy(path, t)
  if not core.is_tensor(t) then t = core.tensor(t) end
  local shape = table.concat(t.shape, ", ") .. (#t.shape == 1 and "," or "")
  local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"):format(type_names[t.dtype], shape)
  header = header .. (" "):rep((64 - (10 + #header + 1) % 64) % 64) .. "\n"
  replace(path, "\147NUMPY\1\0" .. string.char(#header % 256, math.floor(#header/256)) .. header .. t:bytes())
end

local function load_csv(path)
  local file = open(path, "r")
  local names, columns, number = nil, {}, 0
  for line in file:lines() do
    number = number + 1
    line = line:gsub("\r$", "")
    if number == 1 then line = line:gsub("^\239\187\191", "") end
    if not line:match("^%s*#") and line:match("%S") then
      local fields = {}
      for field in (line .. ","):gmatch("([^,]*),") do fields[#fields + 1] = field:match("^%s*\"?(.-)\"?%s*$") end
      if not names then
        local header = false
        for _, field in ipairs(fields) do header = header or not tonumber(field) end
        names = {}
        for k, field in ipairs(fields) do
          names[k] = header and field or tostring(k)
          columns[k] = {}
        end
        if header then fields = nil end
      end
      if fields then
        if #fields ~= #names then
          file:close()
          core.fail(("%s:%d: %d fields instead of %d"):format(path, number, #fields, #names))
        end
        for k, field in ipairs(fields) do
          local x = tonumber(field) or ((field == "" or field:lower() == "nan") and 0/0)
          if not x then
            file:close()
            core.fail(("%s:%d: '%s' in column %s is not a number"):format(path, number, field, names[k]))
          end
          columns[k][#columns[k] + 1] = x
        end
      end
    end
  end
  file:close()
  local result = {columns = names or {}}
  for k, name in ipairs(result.columns) do result[name] = core.tensor(columns[k]) end
  return result
end

local function save_csv(path, data)
  local names = data.columns
  if core.is_tensor(data) then core.fail("a csv file takes a table of columns: {time = t, head = h}") end
  if not names then
    names = {}
    for name in pairs(data) do names[#names + 1] = name end
    table.sort(names)
  end
  local lines, columns = {table.concat(names, ",")}, {}
  for k, name in ipairs(names) do
    local column = data[name]
    columns[k] = core.is_tensor(column) and column:totable() or column
    if type(columns[k]) ~= "table" or #columns[k] ~= #columns[1] then core.fail(("column %s must be a list as long as the first"):format(name)) end
  end
  for i = 1, #(columns[1] or {}) do
    local row = {}
    for k = 1, #names do row[k] = ("%.17g"):format(columns[k][i]) end
    lines[#lines + 1] = table.concat(row, ",")
  end
  replace(path, table.concat(lines, "\n") .. "\n")
end

local kinds = {npy = {load_npy, save_npy}, csv = {load_csv, save_csv}}
local function kind(path)
  if type(path) ~= "string" then core.fail(("a file name is needed, not %s"):format(type(path))) end
  local found = kinds[path:match("%.(%w+)$") or ""]
  if not found then core.fail(("%s: the name must end in .npy or .csv"):format(path)) end
  return found
end

--- Reads a file by its ending: .npy gives a tensor, .csv a table of column tensors by name, with the names in `columns`.
---@param path string
function files.load(path) return kind(path)[1](path) end

--- Writes a tensor (.npy) or a table of columns (.csv). The file appears whole or not at all.
---@param path string
function files.save(path, data) return kind(path)[2](path, data) end

return files
