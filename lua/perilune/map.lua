-- map: a function of one entry applied to many at once.
local core = require "perilune.core"
local tree = require "perilune.tree"
local control = require "perilune.control"
local program = core.program

local function walk(xs)
  local leaves, form = tree.leaves(xs)
  if #leaves == 0 then core.fail "map: there is nothing to walk along" end
  local list, n, first = {}, nil, nil
  for k, leaf in ipairs(leaves) do
    local name = leaf.path == "" and "the input" or leaf.path
    if leaf.number or leaf.value.rank == 0 then
      core.fail(("map: %s is a number; what is walked along has a first axis. What is the same for all entries is captured by the function"):format(name))
    end
    list[k] = leaf.value
    local m = leaf.value.shape[1]
    if n and m ~= n then core.fail(("map: %s has %d entries along its first axis and %s has %d"):format(first, n, name, m)) end
    n, first = m, first or name
  end
  return list, form, n
end

--- f applied to every entry along the first axis of xs, to all at once: y1, y2, ... = pl.map(f, xs) stacks the results of
--- y1, y2, ... = f(x) along a new first axis. xs is a tensor of shape {n, ...} or a tree of such, x the same tree of one entry, of
--- shapes {...}; each y is a tensor, a number or a tree of them, {n, ...} in the result.
---
--- f is traced once, for one entry: what it captures is shared by all, and its Lua `if` cannot look at values. Random numbers that it
--- draws are each entry's own, those of a loop over the entries. Elementwise ops give the bits of a loop over the
--- entries; sums and products of matrices may differ by rounding. Gradients pass through, to xs and to what f captures.
---@param f function  x -> y1, y2, ...
---@param xs any  a tensor {n, ...} or a tree of tensors with equal first axes
---@return any ...  for each result of f, the same tree with tensors {n, ...}
return function(f, xs, options)
  control.check_function(f, "map")
  if options ~= nil and type(options) ~= "table" then core.fail(("map: the options are a table, not %s"):format(type(options))) end
  for key in pairs(options or {}) do core.fail(("map has no option '%s'; it has none"):format(tostring(key))) end
  if xs == nil then core.fail "map needs tensors to walk along their first axis, not nil" end
  local inputs, form, n = walk(xs)
  local k = #inputs
  local body, captured, forms, trace, level = control.trace(inputs, 0, f, function(entry) return tree.build(form, entry) end, function(out)
    if out[2] == nil then core.fail "map: the function returns nothing; it returns what is to be stacked" end
    local list = {}
    local all = control.flatten(out, 2, list)
    if #list == 0 then core.fail "map: the function returns no tensor" end
    return list, all
  end, {n = n})
  if level:counts() then
    k = k + 1
    inputs[k] = core.arange(0, n - 1, {dtype = "i64"})
  end
  for _, value in ipairs(captured) do inputs[#inputs + 1] = value end
  local ok, list = pcall(function()
    local mapped = body:map(n, k)
    -- a program that is being traced takes the instructions in, to be optimized with its own
    if program.tracing() then return mapped:inline(inputs) end
    return program.call(mapped, inputs)
  end)
  trace:free()
  if not ok then error(list, 0) end
  local results = {}
  for i, part in ipairs(forms) do results[i] = tree.build(part.form, control.part(list, part.offset, part.n)) end
  return unpack(results, 1, #forms)
end
