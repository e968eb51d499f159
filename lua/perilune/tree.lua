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

local function walk(node, path, leaves, seen, open)
  local kind = type(node)
  if kind == "number" then
    leaves[#leaves + 1] = {value = node, path = path, number = true}
    return
  elseif is_tensor(node) then
    local id = handle(node)
    local first = seen[id]
    if not first then
      first = {value = node, path = path}
      leaves[#leaves + 1] = first
      seen[id] = first
    end
    return
  elseif kind ~= "table" then
    core.fail(("the tree has a %s at %s; leaves are numbers and tensors"):format(kind, path == "" and "its top" or path))
  end
  if open[node] then core.fail(("the tree contains itself at %s"):format(path == "" and "its top" or path)) end
  open[node] = true
  local module = getmetatable(node) ~= nil
  local n, names = ordered(node, path)
  for i = 1, n do
    local child = node[i]
    if not module or is_tensor(child) or type(child) == "table" then walk(child, step(path, i), leaves, seen, open) end
  end
  for _, key in ipairs(names or {}) do
    local child = rawget(node, key)
    if not module or is_tensor(child) or (type(child) == "table" and getmetatable(child)) then
      walk(child, step(path, key), leaves, seen, open)
    end
  end
  open[node] = nil
end

--- The leaves of a tree in order: a list of {value, path, number}. A tensor that stands at two paths is one leaf.
---@param t any  a number, a tensor or a tree
---@return table leaves
function tree.leaves(t)
  local leaves = {}
  walk(t, "", leaves, {}, {})
  return leaves
end

local function rebuild(node, values, state)
  if type(node) == "number" then
    state.k = state.k + 1
    return values[state.k]
  elseif is_tensor(node) then
    local id = handle(node)
    local k = state.seen[id]
    if not k then
      state.k = state.k + 1
      k = state.k
      state.seen[id] = k
    end
    return values[k]
  end
  local meta = getmetatable(node)
  local copy = {}
  local n, names = ordered(node, "")
  for i = 1, n do
    local child = node[i]
    if not meta or is_tensor(child) or type(child) == "table" then copy[i] = rebuild(child, values, state) else copy[i] = child end
  end
  for _, key in ipairs(names or {}) do
    local child = rawget(node, key)
    if not meta or is_tensor(child) or (type(child) == "table" and getmetatable(child)) then
      copy[key] = rebuild(child, values, state)
    else
      copy[key] = child
    end
  end
  return meta and setmetatable(copy, meta) or copy
end

--- A tree of t's form with other leaves, given in the order of tree.leaves.
---@param t any
---@param values table  one value for each leaf
---@return any
function tree.build(t, values)
  return rebuild(t, values, {k = 0, seen = {}})
end

--- f applied to every leaf (and to the leaves at the same places of further trees).
---@param f function
---@param t any
---@return any
function tree.map(f, t, ...)
  local others, values = {...}, {}
  for i, other in ipairs(others) do others[i] = tree.leaves(other) end
  for k, leaf in ipairs(tree.leaves(t)) do
    local more = {}
    for i, other in ipairs(others) do
      if not other[k] then core.fail(("the trees differ: the second lacks %s"):format(leaf.path)) end
      more[i] = other[k].value
    end
    values[k] = f(leaf.value, unpack(more))
  end
  return tree.build(t, values)
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
