-- Derivatives of Lua functions over trees of parameters.
local core = require "perilune.core"
local tree = require "perilune.tree"

local derivative = {}
local is_tensor = core.is_tensor

-- The parameters as tensors, their names, and the leaves (a single tensor or number is a tree of one).
local function parameters(x)
  local leaves, form = tree.leaves(x)
  local tensors, names = {}, {}
  for k = 1, #leaves do
    local leaf = leaves[k]
    tensors[k] = leaf.number and core.tensor(leaf.value) or leaf.value
    names[k] = leaf.path
  end
  return leaves, tensors, names, form
end

-- The tree of results in x's form: where a number went in, a number comes out.
local function results(form, leaves, values, numbers)
  if numbers then
    for k = 1, #leaves do
      local leaf = leaves[k]
      if leaf.number and values[k] then values[k] = values[k]:item() end
    end
  end
  return tree.build(form, values)
end

local function check_loss(loss)
  if is_tensor(loss) then
    if loss.count ~= 1 then
      core.fail(("the loss must be a single number, not a tensor of shape {%s}: sum it, or take its mean"):format(table.concat(loss.shape, ", ")))
    end
    return loss
  elseif type(loss) == "number" then
    return core.tensor(loss) -- does not depend on the parameters
  end
  core.fail(("the loss must be a number or a 0-d tensor, not %s"):format(loss == nil and "nil" or type(loss)))
end

local told = {}
local function notice(names, reached)
  local lost
  for k = 1, #reached do
    if not reached[k] then
      lost = lost or {}
      lost[#lost + 1] = names[k] == "" and "the parameter" or names[k]
    end
  end
  if not lost then return nil end
  return ("%s %s no path to the result; its gradient is zero"):format(table.concat(lost, ", "), #lost > 1 and "have" or "has")
end

local function tell(text)
  if text and not told[text] then
    told[text] = true
    io.stderr:write("perilune: ", text, "\n")
  end
end

-- Calls f with argument number `wrt` replaced; returns its results packed, or frees the region and raises again.
local function call(region, f, ...)
  local out = {core.call(f, ...)}
  if not out[1] then
    region:free()
    error(out[2], 0)
  end
  return out
end

local function guarded(region, ok, ...)
  if not ok then
    region:free()
    error((...), 0)
  end
  return ...
end

local function with_argument(wrt, value, ...)
  if wrt == 1 then return value, select(2, ...) end
  local args = {n = math.max(select("#", ...), wrt), ...}
  args[wrt] = value
  return unpack(args, 1, args.n)
end

-- One evaluation with its gradient. Returns loss, gradients, aux list, leaves, form, lost.
local function evaluate(f, x, wrt, ...)
  local leaves, tensors, names, form = parameters(x)
  local region, inputs = core.open(tensors, names)
  local out = call(region, f, with_argument(wrt, tree.build(form, inputs), ...))
  local loss = guarded(region, pcall(check_loss, out[2]))
  region:close()
  local outermost = not core.recording()
  if outermost then
    loss:promote()
    for k = 3, #out do tree.promote(out[k]) end
  end
  local gradients, reached = guarded(region, pcall(region.vjp, region, {loss}, nil, true))
  if outermost then region:free() end
  return loss, gradients, out, leaves, form, notice(names, reached)
end
derivative.evaluate = evaluate

local function options_of(options, what)
  local wrt = 1
  for key, value in pairs(options or {}) do
    if key ~= "wrt" then core.fail(("%s has no option '%s'; it has wrt"):format(what, tostring(key))) end
    wrt = value
  end
  return wrt
end

local function check_function(f, what)
  local meta = type(f) == "table" and getmetatable(f)
  if type(f) ~= "function" and not (meta and meta.__call) and not core.program.is_compiled(f) then core.fail(("%s needs a function, not %s"):format(what, type(f))) end
end

--- The function x -> f(x), gradient, aux...: the value (0-d), the tree of derivatives and what else f returns.
---@param f function  loss, aux... = f(x, ...); the loss has one element
---@param options? table  {wrt = 1}: which argument
---@return function
function derivative.value_and_grad(f, options)
  check_function(f, "value_and_grad")
  local wrt = options_of(options, "value_and_grad")
  local function general(...)
    local x = select(wrt, ...)
    local loss, gradients, out, leaves, form, lost = evaluate(f, x, wrt, ...)
    if lost then tell(lost) end
    local g = results(form, leaves, gradients, not core.recording())
    return loss, g, unpack(out, 3, #out)
  end
  if not core.program.is_compiled(f) then return general end
  return core.program.gradient_function(f, wrt, general, function(reached, x)
    local _, _, names = parameters(x)
    tell(notice(names, reached))
  end)
end

--- The function x -> gradient of f at x, a tree like x.
---@param f function
---@param options? table  {wrt = 1}
---@return function
function derivative.grad(f, options)
  local both = derivative.value_and_grad(f, options)
  return function(...)
    local _, g = both(...)
    return g
  end
end

-- The path of the first leaf of a result or an argument that is not finite; what is no tree has none.
local function not_finite(x, path)
  if type(x) == "number" then return x - x ~= 0 and path or nil end
  if is_tensor(x) then return (x.dtype == "f64" or x.dtype == "f32") and core.sum(x - x):item() ~= 0 and path or nil end
  if type(x) ~= "table" then return nil end
  local _, leaves = pcall(tree.leaves, x)
  for _, leaf in ipairs(type(leaves) == "table" and leaves or {}) do
    if not_finite(leaf.value, "") then return path .. (leaf.path:sub(1, 1) == "[" and "" or ".") .. leaf.path end
  end
end

-- Which op, on which line, first gives a NaN or infinity in f(...); where none does, nil. One more call of f, every op checked.
local function first_nan(f, ...)
  for k = 1, select("#", ...) do
    local path = not_finite((select(k, ...)), "argument " .. k)
    if path then return path .. " is not finite itself" end
  end
  core.program.plain(false, true)
  local out = {core.call(f, ...)}
  core.program.plain(false, false)
  if out[1] then return nil end
  local message = tostring(out[2])
  if not message:find("first gave a NaN or infinity", 1, true) then error(out[2], 0) end
  local place, op, rest = message:match("^(.-:%d+): (%S+)( first gave.*)$") -- an op that was called itself
  return place and ("%s at %s%s"):format(op, place, rest) or message:match("^.-:%d+: (%S+ at .*)$") or message
end
derivative.first_nan = first_nan

--- f that looks where NaN comes from: called, it returns what f does while that is finite; else it calls f a second time, every op
--- checked (those of programs too, one by one), and the error names the op, its line and the range of its arguments.
---
---     pl.trace_nan(pl.grad(loss))(x)   -- the reverse sweep too
---@param f function
---@return function
function derivative.trace_nan(f)
  check_function(f, "trace_nan")
  return function(...)
    local out = {core.call(f, ...)}
    if not out[1] then error(out[2], 0) end
    local n, found = table.maxn(out), nil
    for k = 2, n do found = found or not_finite(out[k], "result " .. k - 1) end
    if found then core.fail(first_nan(f, ...) or found .. " is not finite, but no op made it so: it was given to f") end
    return unpack(out, 2, n)
  end
end

-- Outputs of f as a list of tensors, for vjp and jvp.
local function outputs(value)
  if is_tensor(value) then return {value}, nil end
  local list = {}
  local leaves, value_form = tree.leaves(value)
  for k, leaf in ipairs(leaves) do list[k] = leaf.number and core.tensor(leaf.value) or leaf.value end
  return list, leaves, value_form
end

local function tangent_list(leaves, t, what)
  local other = tree.leaves(t)
  if #other ~= #leaves then core.fail(("%s: the tree has %d leaves, %d are needed"):format(what, #other, #leaves)) end
  local list = {}
  -- under handles of their own: a parameter may be its own tangent
  for k, leaf in ipairs(other) do list[k] = leaf.number and core.tensor(leaf.value) or core.reshape(leaf.value, leaf.value.shape) end
  return list
end

--- The value of f at x and the function that pulls a cotangent of it back to x; that may be called any number of times.
---@param f function
---@param x any  tree of parameters
---@return any value
---@return function pullback  cotangent -> tree like x
function derivative.vjp(f, x)
  check_function(f, "vjp")
  local leaves, tensors, names, form = parameters(x)
  local region, inputs = core.open(tensors, names)
  local out = call(region, f, tree.build(form, inputs))
  local value = out[2]
  local list, ys = guarded(region, pcall(outputs, value))
  region:close()
  if not core.recording() then tree.promote(value) end
  local function pullback(cotangent)
    local seeds = tangent_list(ys or {true}, cotangent, "vjp")
    local gradients = region:vjp(list, seeds, false)
    return results(form, leaves, gradients, not core.recording())
  end
  return value, pullback
end

-- Derivatives of compiled functions as compiled functions of their own, outside recordings: everything in one program.
local programs = setmetatable({}, {__mode = "k"})
local function compiled(f, kind, make)
  if not core.program.is_compiled(f) or core.recording() then return nil end
  local own = programs[f] or {}
  programs[f] = own
  own[kind] = own[kind] or core.program.compiled(make(f:source()))
  return own[kind]
end

--- The value of f at x and its derivative along the tangent t.
---@param f function
---@param x any  tree of parameters
---@param t any  tree like x
---@return any value
---@return any tangent  like the value
function derivative.jvp(f, x, t)
  check_function(f, "jvp")
  local whole = compiled(f, "jvp", function(source) return function(p, v) return derivative.jvp(source, p, v) end end)
  if whole then return whole(x, t) end
  local leaves, tensors, names, form = parameters(x)
  local tangents = tangent_list(leaves, t, "jvp")
  local region, inputs = core.open(tensors, names)
  local out = call(region, f, tree.build(form, inputs))
  local value = out[2]
  local list, _, value_form = guarded(region, pcall(outputs, value))
  region:close()
  local outermost = not core.recording()
  local dy = guarded(region, pcall(region.jvp, region, list, tangents))
  for k, d in ipairs(dy) do
    if not d then dy[k] = core.zeros{unpack(list[k].shape)}:to(list[k].dtype) end
  end
  if outermost then
    tree.promote(value)
    region:free()
  end
  return value, tree.build(value_form or 1, dy)
end

--- The function (x, v) -> Hessian of f at x times v, reverse over forward mode.
---@param f function  its first result has one element
---@return function
function derivative.hvp(f)
  check_function(f, "hvp")
  return function(x, v)
    local leaves, tensors, names, form = parameters(x)
    local whole = compiled(f, "hvp", derivative.hvp)
    if whole then
      local values = {}
      for k, leaf in ipairs((tree.leaves(whole(x, v)))) do values[k] = leaf.value end
      return results(form, leaves, values, true)
    end
    local tangents = tangent_list(leaves, v, "hvp")
    local region, inputs = core.open(tensors, names)
    local out = call(region, f, tree.build(form, inputs))
    local loss = guarded(region, pcall(check_loss, out[2]))
    local dy = guarded(region, pcall(region.jvp, region, {loss}, tangents))
    region:close()
    local product
    if dy[1] then
      product = guarded(region, pcall(region.vjp, region, {dy[1]}, nil, true))
    else
      product = {}
      for k, tensor in ipairs(tensors) do product[k] = tensor*0 end
    end
    if not core.recording() then region:free() end
    return results(form, leaves, product, not core.recording())
  end
end

--- f's gradient against its values along random directions: the Taylor remainders |f(x + h v) - f(x) - h g'v| must fall as
--- h^2, and as h^3 with the Hessian product. Raises an error with the table when they do not.
---@param f function
---@param x any  tree of parameters
---@param options? table  {seed = 1, directions = 2, order = 3}
---@return table rates  {gradient = worst slope, hessian = worst slope}; 2 and 3, or inf where the remainder is rounding
function derivative.check_grad(f, x, options)
  local o = {seed = 1, directions = 2, order = 3}
  for key, value in pairs(options or {}) do
    if o[key] == nil then core.fail(("check_grad has no option '%s'; it has directions, order, seed"):format(tostring(key))) end
    o[key] = value
  end
  local loss, gradients, _, leaves, form, lost = evaluate(f, x, 1, x)
  tell(lost)
  local f0 = loss:item()
  if f0 ~= f0 then core.fail("check_grad: the loss is NaN") end
  local function at(moved)
    local y = f(tree.build(form, moved))
    return is_tensor(y) and y:item() or y
  end
  local worst = {gradient = math.huge, hessian = math.huge}
  for d = 1, o.directions do
    local v, slope, size, vv = {}, 0, 0, 0
    for k, leaf in ipairs(leaves) do
      local t = leaf.number and core.tensor(leaf.value) or leaf.value
      v[k] = core.random("normal")(t.shape, k*2^32, o.seed, d):to(t.dtype)
      slope = slope + core.sum(gradients[k]*v[k]):item()
      size = math.max(size, core.max(core.abs(t), nil, false):item())
      vv = vv + core.sum(v[k]*v[k]):item()
    end
    local curvature = 0
    if o.order >= 3 then
      local hv = derivative.hvp(f)(x, tree.build(form, v))
      for k, leaf in ipairs(tree.leaves(hv)) do curvature = curvature + core.sum(v[k]*leaf.value):item() end
    end
    local h = 0.02*math.max(size, 1e-3)/math.max(1, math.sqrt(vv))
    local rows, first, second = {}, {}, {}
    local largest = math.abs(f0)
    for i = 1, 7 do
      local moved = {}
      for k, leaf in ipairs(leaves) do
        local y = leaf.value + h*v[k]
        moved[k] = y
      end
      local fh = at(moved)
      largest = math.max(largest, math.abs(fh))
      first[i] = math.abs(fh - f0 - h*slope)
      second[i] = math.abs(fh - f0 - h*slope - 0.5*h*h*curvature)
      rows[i] = ("%10.2e %12.3e %12.3e"):format(h, first[i], second[i])
      h = h/2
    end
    -- The rate at the smallest steps whose remainder stands clear of rounding; where none does, the derivative is exact.
    local floor = 2e-15*largest + 1e-300
    local function rate(r)
      local last
      for i = 1, 6 do
        if r[i + 1] > 50*floor then last = math.log(r[i]/r[i + 1])/math.log(2) end
      end
      return last or math.huge
    end
    local r1, r2 = rate(first), o.order >= 3 and rate(second) or math.huge
    worst.gradient, worst.hessian = math.min(worst.gradient, r1), math.min(worst.hessian, r2)
    if r1 < 1.8 or (r2 < 2.7 and o.order >= 3) then
      core.fail(("check_grad: the %s is wrong: along direction %d the remainder falls as h^%.2f instead of h^%d\n%10s %12s %12s\n%s")
        :format(r1 < 1.8 and "gradient" or "Hessian product", d, r1 < 1.8 and r1 or r2, r1 < 1.8 and 2 or 3,
          "h", "first order", "second order", table.concat(rows, "\n")))
    end
  end
  return worst
end

return derivative
