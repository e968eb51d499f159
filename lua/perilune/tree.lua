-- Trees: nested tables whose leaves are numbers and tensors. Lists come first, then keys sorted bytewise. A table with a
-- metatable is a module: only its tensors (and modules inside) are parameters; the rest is carried along.
local core = require "perilune.core"

local tree = {}
local is_tensor, handle = core.is_tensor, core.handle

local function step(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  return path == "" and key or path .. "." .. key
end

-- The keys of a table in order; errors for holes and for keys that are neither positions nor names.
local function ordered(node, path)
  local n, names = #node, nil
  for key in pairs(node) do
    if type(key) == "number" then
      if key < 1 or key > n or key ~= math.floor(key) then
        core.fail(("the tree has a hole or a stray index: %s"):format(step(path, key)))
      end
    elseif type(key) == "string" then
      names = names or {}
      names[#names + 1] = key
    else
      core.fail(("the tree has a key of type %s at %s; keys are positions and names"):format(type(key), path == "" and "its top" or path))
    end
  end
  if names then table.sort(names) end
  return n, names
end

-- Walks a tree into its leaves; returns its form: a leaf's number, or the table's keys and their forms.
local function walk(node, path, leaves, seen, open)
  local kind = type(node)
  if kind == "number" then
    leaves[#leaves + 1] = {value = node, path = path, number = true}
    return #leaves
  elseif is_tensor(node) then
    local id = handle(node)
    local k = seen[id]
    if not k then
      k = #leaves + 1
      leaves[k] = {value = node, path = path}
      seen[id] = k
    end
    return k
  elseif kind ~= "table" then
    core.fail(("the tree has a %s at %s; leaves are numbers and tensors"):format(kind, path == "" and "its top" or path))
  end
  if open[node] then core.fail(("the tree contains itself at %s"):format(path == "" and "its top" or path)) end
  open[node] = true
  local meta = getmetatable(node)
  local n, names = ordered(node, path)
  local keys, forms = {}, {}
  local form = {keys = keys, forms = forms, meta = meta, node = meta and node}
  for i = 1, n do
    local child = node[i]
    if not meta or is_tensor(child) or type(child) == "table" then
      keys[#keys + 1] = i
      forms[#forms + 1] = walk(child, step(path, i), leaves, seen, open)
    end
  end
  if names then
    for k = 1, #names do
      local key = names[k]
      local child = rawget(node, key)
      if not meta or is_tensor(child) or (type(child) == "table" and getmetatable(child)) then
        keys[#keys + 1] = key
        forms[#forms + 1] = walk(child, path == "" and key or path .. "." .. key, leaves, seen, open)
      end
    end
  end
  open[node] = nil
  return form
end

--- The leaves of a tree in order, a list of {value, path, number}, and its form for tree.build. A tensor that stands at two
--- paths is one leaf.
---@param t any  a number, a tensor or a tree
---@return table leaves
---@return any form
function tree.leaves(t)
  local leaves = {}
  local form = walk(t, "", leaves, {}, {})
  return leaves, form
end

--- A tree of a form with other leaves, given in the order of tree.leaves.
---@param form any  from tree.leaves
---@param values table  one value for each leaf
---@return any
local function build(form, values)
  if type(form) == "number" then return values[form] end
  local copy = {}
  if form.meta then
    for key, child in pairs(form.node) do copy[key] = child end
  end
  local keys, forms = form.keys, form.forms
  for k = 1, #keys do
    local child = forms[k]
    copy[keys[k]] = type(child) == "number" and values[child] or build(child, values)
  end
  return form.meta and setmetatable(copy, form.meta) or copy
end
tree.build = build

--- f applied to every leaf (and to the leaves at the same places of further trees).
---@param f function
---@param t any
---@return any
function tree.map(f, t, ...)
  local others, values = {...}, {}
  for i, other in ipairs(others) do others[i] = (tree.leaves(other)) end
  local leaves, form = tree.leaves(t)
  for k, leaf in ipairs(leaves) do
    local more = {}
    for i, other in ipairs(others) do
      if not other[k] then core.fail(("the trees differ: the second lacks %s"):format(leaf.path)) end
      more[i] = other[k].value
    end
    values[k] = f(leaf.value, unpack(more))
  end
  return build(form, values)
end

--- Keeps every tensor of a result (any nesting; other values are left alone) beyond the recording that made it.
function tree.promote(t)
  if is_tensor(t) then
    t:promote()
  elseif type(t) == "table" then
    for _, child in pairs(t) do
      if type(child) == "table" or type(child) == "userdata" then tree.promote(child) end
    end
  end
  return t
end

return tree
