-- Jacobians, Hessians and linearizations. Dense ones outside a trace are rows or columns of one recording. The others trace the
-- function (only shapes exist while it runs: no `if` on values), split its tangent program into what is computed once and what
-- every product repeats, and push or pull many seeds by one scan.
local core = require "perilune.core"
local check_options = require("perilune.options").check
local tree = require "perilune.tree"
local control = require "perilune.control"
local derivative = require "perilune.derivative"
local program = core.program

local jacobian = {}
local is_tensor = core.is_tensor
local tensors, part = control.tensors, control.part

local function shape_text(t) return "{" .. table.concat(t.shape, ", ") .. "}" end

local function check_function(f, what)
  local meta = type(f) == "table" and getmetatable(f)
  if type(f) ~= "function" and not (meta and meta.__call) then core.fail(("%s needs a function, not %s"):format(what, f == nil and "nil" or type(f))) end
end

local modes = {forward = true, reverse = true}
local function read_options(options, what, valid)
  options = check_options(options, valid, what)
  local wrt, mode = options.wrt or 1, options.mode
  if type(wrt) ~= "number" or wrt < 1 or wrt > 100 or wrt ~= math.floor(wrt) then
    core.fail(("%s: wrt is the number of an argument, not %s"):format(what, tostring(wrt)))
  end
  if mode ~= nil and not modes[mode] then core.fail(("%s: mode is \"forward\" or \"reverse\", not %s"):format(what, tostring(mode))) end
  return wrt, mode
end

-- f of its argument number wrt alone, and that argument.
local function alone(f, wrt, what, ...)
  check_function(f, what)
  local args = {n = math.max(select("#", ...), wrt), ...}
  local x = args[wrt]
  if x == nil then core.fail(("%s: the function's argument %d is nil"):format(what, wrt)) end
  return function(p)
    args[wrt] = p
    return f(unpack(args, 1, args.n))
  end, x
end

local function is_float(t) return t.dtype == "f64" or t.dtype == "f32" end

local function check_floats(leaves, list, what)
  if #list == 0 then core.fail(("%s: there is nothing to differentiate with respect to"):format(what)) end
  for k, t in ipairs(list) do
    if not is_float(t) then
      core.fail(("%s: %s is %s; only f64 and f32 tensors have derivatives"):format(what, leaves[k].path == "" and "the argument" or leaves[k].path, t.dtype))
    end
  end
end

local function check_tensor(x, what)
  if type(x) == "number" then x = core.tensor(x) end
  if not is_tensor(x) then core.fail(("%s: the argument must be one tensor, not %s; jacobian takes trees"):format(what, type(x))) end
  return x
end

local function like(seeds, t) return seeds.dtype == t.dtype and seeds or seeds:to(t.dtype) end

local function with_first(n, shape)
  local list = {n}
  for a = 1, #shape do list[a + 1] = shape[a] end
  return list
end

local function joined(a, b)
  local list = {}
  for _, n in ipairs(a) do list[#list + 1] = n end
  for _, n in ipairs(b) do list[#list + 1] = n end
  return list
end

-- ---- linearized programs ----

-- f traced at x: its program, the tensors that it takes (x's leaves first), the forms of its first result, and the trace, to be freed
-- when the captured ones are no longer needed.
local function traced(f, x, what)
  local leaves, form = tree.leaves(x)
  local models = tensors(leaves)
  check_floats(leaves, models, what)
  local n = #models
  local body, captured, forms, t = control.trace(models, n, f, function(inputs) return tree.build(form, inputs) end, function(out)
    if out[2] == nil then core.fail(what .. ": the function returns nothing") end
    local list = {}
    return list, control.flatten({nil, out[2]}, 2, list)
  end)
  for _, v in ipairs(captured) do models[#models + 1] = v end
  return {body = body, inputs = models, n = n, leaves = leaves, form = form, forms = forms[1], trace = t}
end

local Linear = {}
Linear.__index = Linear

-- The program at its inputs: results, and what products need.
local function linearized(p)
  local early, tangent, resources, kept = program.linearize(p.body, p.n)
  local out = resources and early:inline(p.inputs) or program.call(early, p.inputs, false)
  local n_in = #p.inputs
  local operands = {}
  for k, number in ipairs(kept) do operands[k] = number <= n_in and p.inputs[number] or out[number - n_in] end
  return setmetatable({tangent = tangent, operands = operands, out = out, n = p.n}, Linear)
end

-- The program and its inputs behind the seeds.
function Linear:part(pull)
  if pull then self.transpose = self.transpose or program.transposed(self.tangent, self.n) end
  return pull and self.transpose or self.tangent
end

function Linear:apply(seeds, pull) return program.call(self:part(pull), joined(seeds, self.operands), false) end

-- For each row (first axis) of the seeds: products stacked along a new first axis.
function Linear:rows(seeds, pull) return program.scan(self:part(pull), joined(seeds, self.operands), 0, #seeds, seeds[1].shape[1], 0) end

-- ---- dense ----

-- Stacked along a new first axis; an op takes a limited number of tensors.
local function stack(list)
  if #list <= 1000 then return core.stack(list) end
  local parts = {}
  for first = 1, #list, 1000 do parts[#parts + 1] = core.stack(part(list, first - 1, math.min(1000, #list - first + 1))) end
  return core.concat(parts)
end

-- {out shape, in shape} from rows {n, out shape} (forward) or {m, in shape}.
local function block(rows, x, y, forward)
  if forward then rows = core.transpose(core.reshape(rows, {x.count, y.count})) end
  return core.reshape(rows, joined(y.shape, x.shape))
end

local function zeros_like(t, n) return like(core.zeros(n and with_first(n, t.shape) or t.shape), t) end

-- Blocks [l][k] of the derivative of leaf l by leaf k, one product for each row. product(seeds) -> list, false where zero.
local function by_products(product, from, to, forward)
  local blocks = {}
  for l = 1, #to do blocks[l] = {} end
  for k, s in ipairs(from) do
    local rows, unit = {}, core.eye(s.count)
    for l = 1, #to do rows[l] = {} end
    for i = 1, s.count do
      local seeds = {}
      for j = 1, #from do seeds[j] = false end
      seeds[k] = like(core.reshape(unit[i], s.shape), s)
      local list = product(seeds)
      for l, t in ipairs(to) do rows[l][i] = list[l] or zeros_like(t) end
    end
    for l, t in ipairs(to) do
      local all = s.count == 0 and zeros_like(t, 0) or stack(rows[l])
      blocks[l][k] = forward and block(all, s, t, true) or block(all, t, s, false)
    end
  end
  return blocks
end

-- The same by scans, for traces.
local function by_scans(linear, from, to, forward)
  local blocks = {}
  for l = 1, #to do blocks[l] = {} end
  for k, s in ipairs(from) do
    local seeds = {}
    for j, t in ipairs(from) do seeds[j] = j ~= k and zeros_like(t, s.count) or like(core.reshape(core.eye(s.count), with_first(s.count, s.shape)), s) end
    local rows = linear:rows(seeds, not forward)
    for l, t in ipairs(to) do blocks[l][k] = forward and block(rows[l], s, t, true) or block(rows[l], t, s, false) end
  end
  return blocks
end

local function count(list)
  local n = 0
  for _, t in ipairs(list) do n = n + t.count end
  return n
end

local function check_results(list, what)
  for _, t in ipairs(list) do
    if not is_float(t) then core.fail(("%s: the function's result is %s; only f64 and f32 tensors have derivatives"):format(what, t.dtype)) end
  end
end

local function dense(f, x, mode, what)
  local leaves, xs, form, ys, y_form, blocks, forward
  local function choose()
    check_results(ys, what)
    forward = mode == "forward" or mode == nil and count(xs) <= count(ys)
  end
  if program.tracing() then
    local p = traced(f, x, what)
    leaves, form, y_form, xs = p.leaves, p.form, p.forms.form, part(p.inputs, 0, p.n)
    local linear = linearized(p)
    ys = part(linear.out, 0, p.forms.n)
    choose()
    blocks = by_scans(linear, forward and xs or ys, forward and ys or xs, forward)
    p.trace:free()
  else
    leaves, form = tree.leaves(x)
    xs = tensors(leaves)
    check_floats(leaves, xs, what)
    local names = {}
    for k, leaf in ipairs(leaves) do names[k] = leaf.path end
    local region, inputs = core.open(xs, names)
    local ok, message = pcall(function()
      local out = {core.call(f, tree.build(form, inputs))}
      if not out[1] then error(out[2], 0) end
      if out[2] == nil then core.fail(what .. ": the function returns nothing") end
      local y_leaves
      y_leaves, y_form = tree.leaves(out[2])
      ys = tensors(y_leaves)
      choose()
      region:close()
      if forward then blocks = by_products(function(seeds) return region:jvp(ys, seeds) end, xs, ys, true)
      else blocks = by_products(function(seeds) return (region:vjp(ys, seeds, false)) end, ys, xs, false) end
    end)
    if not ok or not core.recording() then region:free() end
    if not ok then error(message, 0) end
  end
  local rows = {}
  for l in ipairs(ys) do
    local values = {}
    for k, leaf in ipairs(leaves) do
      local b = forward and blocks[l][k] or blocks[k][l]
      values[k] = leaf.number and b.rank == 0 and not core.recording() and b:item() or b
    end
    rows[l] = tree.build(form, values)
  end
  return tree.build(y_form, rows)
end

--- The function x -> the Jacobian of f at x, dense: {out shape, in shape}, where f takes and returns one tensor. Where they are
--- trees, the result is a tree like f's result whose leaves are trees like x, of such blocks. By columns where x has no more elements
--- than the result, else by rows: that many products.
---@param f function
---@param options? table  {wrt = 1: which argument, mode = "forward" | "reverse"}
---@return function
function jacobian.jacobian(f, options)
  check_function(f, "jacobian")
  local wrt, mode = read_options(options, "jacobian", {wrt = true, mode = true})
  return function(...)
    local g, x = alone(f, wrt, "jacobian", ...)
    return dense(g, x, mode, "jacobian")
  end
end

--- The function x -> the Hessian of f at x, dense: {shape, shape} of x; for a tree, a tree of trees of such blocks. Forward over
--- reverse mode: one product for each element of x. (mode = "reverse" is for users' ops that have a vjp and no jvp.)
---@param f function  its first result has one element
---@param options? table  {wrt = 1, mode = "forward" | "reverse"}
---@return function
function jacobian.hessian(f, options)
  check_function(f, "hessian")
  local wrt, mode = read_options(options, "hessian", {wrt = true, mode = true})
  return function(...)
    local g, x = alone(f, wrt, "hessian", ...)
    return dense(derivative.grad(g), x, mode or "forward", "hessian")
  end
end

-- ---- linearize ----

local function seeds_like(value, models, what)
  local leaves = tree.leaves(value)
  local list = tensors(leaves)
  if #list ~= #models then core.fail(("%s: the tree has %d leaves, %d are needed"):format(what, #list, #models)) end
  for k, t in ipairs(list) do
    if table.concat(t.shape, ",") ~= table.concat(models[k].shape, ",") then
      core.fail(("%s: %s has shape %s, %s is needed"):format(what, leaves[k].path == "" and "it" or leaves[k].path, shape_text(t), shape_text(models[k])))
    end
    list[k] = like(t, models[k])
  end
  return list
end

--- f at x as a linear map: the value, the function t -> J t, and its transpose w -> J' w. What does not depend on t is computed
--- once; each call runs the rest as one program, any number of times. Trees as for jvp and vjp; products are differentiable.
---@param f function  traced: only shapes exist while it runs
---@param x any  tree of parameters
---@return any value
---@return function push  tangent like x -> tangent like the value
---@return function pull  cotangent like the value -> tree like x
function jacobian.linearize(f, x)
  check_function(f, "linearize")
  local p = traced(f, x, "linearize")
  local linear = linearized(p)
  local xs, ys = part(p.inputs, 0, p.n), part(linear.out, 0, p.forms.n)
  local function push(t)
    return tree.build(p.forms.form, linear:apply(seeds_like(t, xs, "the tangent")))
  end
  local function pull(w)
    local list = linear:apply(seeds_like(w, ys, "the cotangent"), true)
    for k, leaf in ipairs(p.leaves) do
      if leaf.number and not core.recording() then list[k] = list[k]:item() end
    end
    return tree.build(p.form, list)
  end
  return tree.build(p.forms.form, ys), push, pull
end

-- ---- sparse ----

local Plan = {}
Plan.__index = Plan
function Plan:__tostring()
  return ("sparse {%d, %d}, %d entries from %d products, %s"):format(self.rows, self.columns, self.nonzeros, self.colours, self.mode)
end

local Sparse = {}
Sparse.__index = Sparse

function Sparse:traced(...)
  local g, x = alone(self.f, self.wrt, self.what, ...)
  x = check_tensor(x, self.what)
  local p = traced(g, x, self.what)
  local ok, message = pcall(function()
    if type(p.forms.form) ~= "number" then core.fail(self.what .. ": the function must return one tensor, not a tree; jacobian takes trees") end
  end)
  if not ok then
    p.trace:free()
    error(message, 0)
  end
  self.held = p.body -- what was derived from it is found again
  local pattern, map, seeds, colours, reverse = program.compression(p.body, p.inputs, self.second)
  return p, x, {pattern = pattern, map = map, seeds = seeds, colours = colours, reverse = reverse}
end

function Sparse:__call(...)
  local p, x, k = self:traced(...)
  local ok, result = pcall(function()
    local at, result = p, 1
    if self.second then
      local needed = {true}
      for i = 2, #p.inputs do needed[i] = false end
      at = {body = p.body:gradient(needed), inputs = p.inputs, n = 1}
      result = 2
    end
    local sparse = require "perilune.sparse"
    if k.map.count == 0 then return sparse.with_values(k.pattern, like(core.zeros(0), x)) end
    local linear = linearized(at)
    local model = k.reverse and linear.out[1] or x
    local seeds = like(core.reshape(k.seeds, with_first(k.colours, model.shape)), model)
    local products = linear:rows({seeds}, k.reverse)[k.reverse and 1 or result]
    return sparse.with_values(k.pattern, core.gather(core.ravel(products), k.map))
  end)
  p.trace:free()
  if not ok then error(result, 0) end
  return result
end

function Sparse:plan(...)
  local p, _, k = self:traced(...)
  p.trace:free()
  local rows, columns, nonzeros = core.sparse.size(k.pattern)
  return setmetatable({rows = rows, columns = columns, nonzeros = nonzeros, colours = k.colours,
    mode = self.second and "forward over reverse" or k.reverse and "reverse" or "forward"}, Plan)
end

local function sparse_derivative(f, options, what, second)
  check_function(f, what)
  local wrt = read_options(options, what, {wrt = true})
  local self = setmetatable({f = f, wrt = wrt, what = what, second = second}, Sparse)
  -- plan with a dot or a colon
  rawset(self, "plan", function(first, ...)
    if first == self then return Sparse.plan(self, ...) end
    return Sparse.plan(self, first, ...)
  end)
  return self
end

--- The Jacobian of f: x {n} -> {m} as a sparse matrix {m, n} (tensors of other shapes count row by row). Which entries can be
--- different from zero follows from the program that f is, traced once; columns (or rows) that share no row are computed by one
--- product, in colours. The result is a callable: J(x) is the matrix, whose values are differentiable; J:plan(x) tells rows, columns,
--- nonzeros, colours and mode. Pattern and colouring are made once for a program and its indices.
--- Coloured as in Gebremedhin, Manne, Pothen, SIAM Review 47(4), 2005.
---@param f function  one tensor of its argument wrt
---@param options? table  {wrt = 1}
---@return table
function jacobian.sparse_jacobian(f, options) return sparse_derivative(f, options, "sparse_jacobian", false) end

--- The Hessian of f: x {n} -> one number as a sparse matrix {n, n}, symmetric, by a star colouring. As sparse_jacobian.
---@param f function
---@param options? table  {wrt = 1}
---@return table
function jacobian.sparse_hessian(f, options) return sparse_derivative(f, options, "sparse_hessian", true) end

-- ---- rows on their own ----

--- The function x {q, i} -> {q, j, i}: the Jacobians of a function whose row k depends on row k of x alone (a constitutive law
--- at q points), by i products (or j, where that is fewer) instead of q*i. f: {q, i} -> {q, j}; that its rows are on their own is
--- the caller's word.
---@param f function
---@param options? table  {wrt = 1}
---@return function
function jacobian.pointwise_jacobian(f, options)
  local what = "pointwise_jacobian"
  check_function(f, what)
  local wrt = read_options(options, what, {wrt = true})
  return function(...)
    local g, x = alone(f, wrt, what, ...)
    x = check_tensor(x, what)
    if x.rank ~= 2 or not is_float(x) then core.fail(("%s: the argument must be f64 or f32 of shape {q, i}, not %s %s"):format(what, x.dtype, shape_text(x))) end
    local region, inputs = core.open({x}, {""})
    local ok, result = pcall(function()
      local out = {core.call(g, inputs[1])}
      if not out[1] then error(out[2], 0) end
      local y = out[2]
      if not is_tensor(y) or y.rank ~= 2 or y.shape[1] ~= x.shape[1] then
        core.fail(("%s: %s is mapped to %s; a tensor {%d, j} is needed, a row for each row"):format(what, shape_text(x),
          is_tensor(y) and shape_text(y) or type(y), x.shape[1]))
      end
      check_results({y}, what)
      region:close()
      local forward = x.shape[2] <= y.shape[2]
      local model, other = forward and x or y, forward and y or x
      local n, passes = model.shape[2], {}
      if n == 0 then return like(core.zeros{x.shape[1], y.shape[2], x.shape[2]}, x) end
      local unit = core.eye(n)
      for k = 1, n do
        local seed = like(core.broadcast_to(unit[k], model.shape), model)
        local list = forward and region:jvp({y}, {seed}) or region:vjp({y}, {seed}, false)
        passes[k] = list[1] or zeros_like(other)
      end
      return core.stack(passes, forward and 3 or 2)
    end)
    if not ok or not core.recording() then region:free() end
    if not ok then error(result, 0) end
    return result
  end
end

-- ---- check ----

local function random_like(list, seed, stream)
  local out = {}
  for k, t in ipairs(list) do out[k] = like(core.random("normal")(t.shape, k*2^32, seed, stream), t) end
  return out
end

local function inner(a, b)
  local sum = 0
  for k = 1, #a do sum = sum + core.sum(like(a[k], b[k]):to("f64")*b[k]:to("f64")):item() end
  return sum
end

--- Forward against reverse mode at x, for random v and w: <J v, w> = <v, J' w>. Raises an error with both numbers when they differ
--- by more than rtol, relative to the larger one or (where they cancel) to a thousandth of |J v| |w|.
---@param f function
---@param x any  tree of parameters
---@param options? table  {seed = 1, rtol = 1e-10, 1e-4 where anything is f32}
---@return table  {forward = <J v, w>, reverse = <v, J' w>, difference = relative}
function jacobian.check_adjoint(f, x, options)
  check_function(f, "check_adjoint")
  options = check_options(options, {seed = true, rtol = true}, "check_adjoint")
  local leaves, form = tree.leaves(x)
  local xs = tensors(leaves)
  check_floats(leaves, xs, "check_adjoint")
  local seed, rtol = options.seed or 1, options.rtol
  if type(seed) ~= "number" or (rtol ~= nil and type(rtol) ~= "number") then core.fail "check_adjoint: seed and rtol are numbers" end
  local v = random_like(xs, seed, 1)
  local value, tangent = derivative.jvp(f, x, tree.build(form, v))
  local ys, jv = tensors((tree.leaves(value))), tensors((tree.leaves(tangent)))
  check_results(ys, "check_adjoint")
  local w = random_like(ys, seed, 2)
  local _, y_form = tree.leaves(value)
  local _, pull = derivative.vjp(f, x)
  local jw = tensors((tree.leaves(pull(tree.build(y_form, w)))))
  local single = false
  for _, t in ipairs(joined(xs, ys)) do single = single or t.dtype == "f32" end
  rtol = rtol or (single and 1e-4 or 1e-10)
  local a, b = inner(jv, w), inner(v, jw)
  local scale = math.max(math.abs(a), math.abs(b), 1e-3*math.sqrt(inner(jv, jv)*inner(w, w)))
  local difference = a == b and 0 or math.abs(a - b)/scale
  if difference > rtol or difference ~= difference then
    core.fail(("check_adjoint: forward and reverse mode differ: <J v, w> = %.17g, <v, J' w> = %.17g, by %.3g; at most %g is allowed")
      :format(a, b, difference, rtol))
  end
  return {forward = a, reverse = b, difference = difference}
end

return jacobian
