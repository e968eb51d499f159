-- Neural networks. A network is a module: a table with a metatable, whose tensors (and modules inside) are its parameters and whose
-- other fields say how it is made. It is called like a function and stands in a tree of parameters like a tensor.
local core = require "perilune.core"
local tree = require "perilune.tree"
local rng = require "perilune.rng"

local nn = {}

-- ---- parts ----

local checked = {} -- name -> the op

-- Does f work element by element? Seen at four numbers, alone and together: what sorts, sums or moves mixes them.
local function works_elementwise(f)
  return pcall(core.pause, function()
    local x = core.tensor({{0.75, -0.5}, {0.25, 0.625}}, {dtype = "f64"})
    local y = f(x)
    assert(y.dtype == "f64" and y.rank == 2 and y.count == 4)
    for i = 1, 2 do
      for j = 1, 2 do
        local a, b = f(core.tensor(x:item(i, j), {dtype = "f64"})):item(), y:item(i, j)
        assert(a == b or (a ~= a and b ~= b))
      end
    end
  end)
end

-- The function of an option that names an elementwise op, or is a function itself.
local function function_of(what, option, f)
  if f == nil or type(f) == "function" then return f end
  if type(f) ~= "string" then core.fail(("%s: %s is the name of an elementwise function, or a function, not %s"):format(what, option, type(f))) end
  if not checked[f] then
    local op = core.op_help(f) and core[f]
    if not op or not works_elementwise(op) then
      core.fail(("%s: there is no elementwise function '%s' for %s; there are tanh, relu, gelu, silu, softplus, sigmoid, sin and the like"):format(what, f, option))
    end
    checked[f] = op
  end
  return checked[f]
end

local function check_options(what, options, valid)
  if type(options) ~= "table" or getmetatable(options) then core.fail(("%s needs a table, %s{...}, not %s"):format(what, what, type(options))) end
  for key in pairs(options) do
    if type(key) ~= "number" then
      local known = false
      for _, name in ipairs(valid) do known = known or name == key end
      if not known then core.fail(("%s has no option '%s'; it has %s"):format(what, tostring(key), table.concat(valid, ", "))) end
    end
  end
end

local function check_sizes(what, sizes, least)
  for k = 1, #sizes do
    local n = sizes[k]
    if type(n) ~= "number" or n < 1 or n ~= math.floor(n) or n > 2^31 then
      core.fail(("%s: size %d is %s; sizes are whole numbers, 1 or more"):format(what, k, tostring(n)))
    end
  end
  if #sizes < least then core.fail(("%s needs %d sizes or more, not %d: those of its input, layers and output"):format(what, least, #sizes)) end
end

local function stream_of(what, options)
  local seed = options.seed
  if seed == nil then seed = require("perilune.init").default().seed end
  if type(seed) ~= "number" or seed ~= math.floor(seed) or math.abs(seed) > 2^53 then core.fail(("%s: seed is a whole number, not %s"):format(what, tostring(seed))) end
  return rng.new(seed)
end

local function label(f) return type(f) == "function" and "a function" or f end

local function count(module)
  local n = 0
  for _, leaf in ipairs((tree.leaves(module))) do n = n + leaf.value.count end
  return n
end

local function counted(module, text)
  local n = count(module)
  return ("%s: %d parameter%s"):format(text, n, n == 1 and "" or "s")
end

-- ---- dense ----

local Dense = {__name = "dense layer"}

local function describe_dense(layer)
  local n, m = layer.weight:size()
  return ("dense %d -> %d%s"):format(n, m, layer.activation and ", " .. label(layer.activation) or "")
end
function Dense:__tostring() return counted(self, describe_dense(self)) end

function Dense:__call(x)
  if not core.is_tensor(x) then core.fail(("%s needs a tensor, not %s"):format(describe_dense(self), x == nil and "nil" or type(x))) end
  local n = self.weight.shape[1]
  if x.shape[x.rank] ~= n then
    core.fail(("%s: the last axis of its input has %d entries; its shape is {%s}"):format(describe_dense(self), n, table.concat(x.shape, ", ")))
  end
  local y = core.matmul(x, self.weight) + self.bias
  local f = self.activation
  if not f then return y end
  return (checked[f] or f)(y)
end

-- Glorot and Bengio 2010, eq. 16: uniform on +-sqrt(6/(n + m)); biases 0.
local function new_dense(n, m, activation, stream)
  local limit, bias = math.sqrt(6/(n + m)), core.zeros(m)
  return setmetatable({weight = stream:uniform(n, m, {lo = -limit, hi = limit}):to(bias.dtype), bias = bias, activation = activation}, Dense)
end

--- A layer y = f(x W + b), x {..., n} -> y {..., m}: pl.nn.dense{n, m, activation = "tanh", seed = 1}. A module with the parameters weight
--- {n, m} and bias {m}. Weights begin uniform on +-sqrt(6/(n + m)) (Glorot and Bengio 2010, eq. 16), biases 0.
---@param options table  {n, m, activation: the name of an elementwise function, or a function; seed = pl.default().seed}
---@return table
function nn.dense(options)
  check_options("dense", options, {"activation", "seed"})
  check_sizes("dense", options, 2)
  if #options > 2 then core.fail(("dense has 2 sizes, not %d; mlp has more layers"):format(#options)) end
  function_of("dense", "activation", options.activation)
  return new_dense(options[1], options[2], options.activation, stream_of("dense", options))
end

-- ---- sequential ----

local Sequential = {__name = "sequence of modules"}

function Sequential:__tostring()
  local lines = {counted(self, "sequential")}
  for k, part in ipairs(self) do lines[k + 1] = "  " .. tostring(label(part)):gsub("\n", "\n  ") end
  return table.concat(lines, "\n")
end

function Sequential:__call(...)
  local y = (checked[self[1]] or self[1])(...)
  for k = 2, #self do y = (checked[self[k]] or self[k])(y) end
  return y
end

--- Modules, functions and names of elementwise functions, one after the other: pl.nn.sequential{pl.nn.dense{2, 8}, "tanh", pl.nn.dense{8, 1}}.
--- A module; the first part takes all the arguments.
---@param parts table
---@return table
function nn.sequential(parts)
  check_options("sequential", parts, {"(no options, parts alone)"})
  if #parts == 0 then core.fail "sequential needs a part or more" end
  local self = {}
  for k, part in ipairs(parts) do
    local meta = type(part) == "table" and getmetatable(part)
    if not (meta and meta.__call) then
      if type(part) ~= "string" and type(part) ~= "function" then
        core.fail(("sequential: part %d is a module, a function or the name of an elementwise one, not %s"):format(k, type(part)))
      end
      function_of("sequential", "part " .. k, part)
    end
    self[k] = part
  end
  return setmetatable(self, Sequential)
end

-- ---- mlp ----

local Mlp = {__name = "multilayer perceptron"}

local function sizes_of(net)
  local sizes = {}
  for k = 1, #net do sizes[k] = net[k].weight.shape[1] end
  sizes[#net + 1] = net[#net].weight.shape[2]
  return sizes
end

local function describe_mlp(net) return "mlp " .. table.concat(sizes_of(net), " -> ") end

function Mlp:__tostring()
  local text = {describe_mlp(self)}
  if #self > 1 then text[#text + 1] = label(self[1].activation) end
  if self[#self].activation then text[#text + 1] = "output " .. label(self[#self].activation) end
  if self.output_scale then text[#text + 1] = ("times %.6g"):format(self.output_scale) end
  local ranges = {}
  for k, pair in ipairs(self.input or {}) do ranges[k] = ("(%.6g, %.6g)"):format(pair[1], pair[2]) end
  if self.input then text[#text + 1] = "input " .. table.concat(ranges, ", ") end
  return counted(self, table.concat(text, ", "))
end

-- The inputs as a matrix of points, {points, n}, and the shape of the points.
local function points_of(net, ...)
  local n, given, args = net[1].weight.shape[1], select("#", ...), {...}
  local single = net[1].weight.dtype == "f32" and {dtype = "f32"} or nil
  for k = 1, given do
    if type(args[k]) == "number" then args[k] = core.tensor(args[k], single) end
    if not core.is_tensor(args[k]) then core.fail(("%s: input %d is a tensor or a number, not %s"):format(describe_mlp(net), k, type(args[k]))) end
  end
  if given == 1 and n > 1 then
    local x = args[1]
    local shape = {unpack(x.shape)}
    if table.remove(shape) ~= n then
      core.fail(("%s takes %d inputs, or one whose last axis has %d entries; its shape is {%s}"):format(describe_mlp(net), n, n, table.concat(x.shape, ", ")))
    end
    return core.reshape(x, {x.count/n, n}), shape, true
  end
  if given ~= n then
    core.fail(("%s takes %d input%s, not %d"):format(describe_mlp(net), n, n == 1 and "" or "s (or one tensor, stacked along its last axis)", given))
  end
  local widest = args[1]
  for k = 2, n do if args[k].count > widest.count or args[k].rank > widest.rank then widest = args[k] end end
  local shape = widest.shape
  if n == 1 then return core.reshape(widest, {widest.count, 1}), shape end
  for k = 1, n do args[k] = core.ravel(core.broadcast_to(args[k], shape)) end
  return core.stack(args, {axis = 2}), shape
end

function Mlp:__call(...)
  local x, shape, stacked = points_of(self, ...)
  local input = self.input
  if input then -- onto (-1, 1)
    local center, slope = {}, {}
    for k, pair in ipairs(input) do center[k], slope[k] = (pair[1] + pair[2])/2, 2/(pair[2] - pair[1]) end
    if #input == 1 then
      x = (x - center[1])*slope[1]
    else
      local dtype = {dtype = x.dtype == "f32" and "f32" or "f64"}
      x = (x - core.tensor(center, dtype))*core.tensor(slope, dtype)
    end
  end
  for k = 1, #self do x = self[k](x) end
  if self.output_scale then x = x*self.output_scale end
  local m = self[#self].weight.shape[2]
  if m == 1 and not stacked then return core.reshape(x, shape) end
  local full = {unpack(shape)}
  full[#full + 1] = m
  return core.reshape(x, full)
end

-- {lo, hi} or {{lo, hi}, ...} as a list of pairs: one, or one an input.
local function ranges_of(input, n)
  if input == nil then return nil end
  local function pair(p)
    local numbers = type(p) == "table" and #p == 2 and type(p[1]) == "number" and type(p[2]) == "number"
    local length = numbers and p[2] - p[1] or 0/0
    if length <= 0 or length ~= length or length == math.huge then core.fail("mlp: input is {lo, hi} with lo < hi, or a list of them, one an input") end
    return {p[1], p[2]}
  end
  if type(input) ~= "table" or type(input[1]) ~= "table" then return {pair(input)} end
  if #input ~= n then core.fail(("mlp: input has %d ranges for %d inputs"):format(#input, n)) end
  local ranges = {}
  for k, p in ipairs(input) do ranges[k] = pair(p) end
  return ranges
end

--- A multilayer perceptron, dense layers with an activation between them:
---
---     k = pl.nn.mlp{2, 20, 20, 1, activation = "tanh", input = {0, 1}, output = "softplus", seed = 1}
---     k(x, y)       -- one value for each pair of entries of x and y, in their shape
---
--- Sizes: of the input, the layers, the output. k(x, y) stacks its inputs, tensors of one shape (or numbers, or what broadcasts to it), and
--- keeps their shape, with a last axis for several outputs; k(X) with X {..., 2} gives {..., outputs}. A net of one input and one output
--- acts element by element on any shape.
---
--- A module: it stands in trees of parameters (pl.grad, pl.minimize), and what comes back is a net again. Its layers are k[1], k[2], ...
--- as of pl.nn.dense, whose initialization it has.
--- Options: activation ("tanh"; the name of an elementwise function, or a function), input ({lo, hi}, or such a pair for each input: mapped
--- to (-1, 1)), output (the name of an elementwise function, or a function, for the end; none), output_scale (a number times that), seed
--- (pl.default().seed).
---@param options table  {sizes..., activation, input, output, output_scale, seed}
---@return table
function nn.mlp(options)
  check_options("mlp", options, {"activation", "input", "output", "output_scale", "seed"})
  check_sizes("mlp", options, 2)
  local scale = options.output_scale
  if scale ~= nil and type(scale) ~= "number" then core.fail(("mlp: output_scale is a number, not %s"):format(type(scale))) end
  local activation = options.activation or "tanh"
  function_of("mlp", "activation", activation)
  function_of("mlp", "output", options.output)
  local stream, layers = stream_of("mlp", options), #options - 1
  local self = {input = ranges_of(options.input, options[1]), output_scale = scale}
  for k = 1, layers do self[k] = new_dense(options[k], options[k + 1], k < layers and activation or options.output, stream) end
  return setmetatable(self, Mlp)
end

return nn
