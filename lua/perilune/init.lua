-- The language: names, defaults, printing, help. Everything numeric is the engine's.
local core = require "perilune.core"

local pl = {version = "0.1.0"}

for _, name in ipairs(core.ops()) do pl[name] = core[name] end
for _, name in ipairs{"tensor", "zeros", "ones", "full", "arange", "linspace", "eye", "buffer", "ix", "is_tensor", "is_buffer"} do pl[name] = core[name] end

core.set_printer(function(t) return require "perilune.print"(t) end)

local derivative = require "perilune.derivative"
for _, name in ipairs{"grad", "value_and_grad", "vjp", "jvp", "hvp", "check_grad", "trace_nan"} do pl[name] = derivative[name] end

local jacobian = require "perilune.jacobian"
for _, name in ipairs{"jacobian", "hessian", "sparse_jacobian", "sparse_hessian", "linearize", "pointwise_jacobian", "check_adjoint"} do pl[name] = jacobian[name] end

local control = require "perilune.control"
for _, name in ipairs{"scan", "while_loop", "cond", "checkpoint", "resume"} do pl[name] = control[name] end
local nonlinear = require "perilune.nonlinear"
for _, name in ipairs{"newton", "root", "fixed_point", "argmin"} do pl[name] = nonlinear[name] end
pl.compile = require("perilune.compile").compile
pl.load_program = require("perilune.program_file").load_program

pl.map = require "perilune.map"
local user_op = require "perilune.user_op"
pl.op, pl.load_op = user_op.op, user_op.load_op

local fourier = require "perilune.fourier"
pl.fftfreq, pl.rfftfreq = fourier.fftfreq, fourier.rfftfreq

pl.tree = require "perilune.tree"
pl.rng = require("perilune.rng").new

-- Modules that a script may not need are loaded when they are first named.
local lazy = {sparse = true, io = true, minimize = true, dist = true, einsum = true, nn = true}
setmetatable(pl, {__index = function(t, key)
  if lazy[key] then
    local module = require("perilune." .. key)
    rawset(t, key, module)
    return module
  end
  if type(key) == "string" and debug.getinfo(2, "S") then core.fail(("pl has no '%s'"):format(key)) end
end})

--- Grids of coordinates ("ij"): the k-th result varies along axis k alone.
---@return any ...  as many tensors as axes were given, each of shape {#x1, #x2, ...}
function pl.meshgrid(...)
  local axes, shape = {...}, {}
  for k, x in ipairs(axes) do
    if not core.is_tensor(x) then axes[k] = core.tensor(x) end
    if axes[k].rank ~= 1 then core.fail(("meshgrid: argument %d has shape {%s}; vectors are needed"):format(k, table.concat(axes[k].shape, ", "))) end
    shape[k] = #axes[k]
  end
  local out = {}
  for k, x in ipairs(axes) do
    local ones = {}
    for a = 1, #axes do ones[a] = a == k and shape[k] or 1 end
    out[k] = core.broadcast_to(core.reshape(x, ones), shape)
  end
  return unpack(out)
end

--- The inner product of two tensors, or of two trees leaf by leaf.
function pl.dot(a, b)
  if core.is_tensor(a) and core.is_tensor(b) and (a.rank > 1 or b.rank > 1) and table.concat(a.shape, ",") ~= table.concat(b.shape, ",") then
    return core.matmul(a, b)
  end
  if core.is_tensor(a) then return core.sum(a*b) end
  local x, y, total = pl.tree.leaves(a), pl.tree.leaves(b), 0
  if #x ~= #y then core.fail(("dot: trees of %d and %d leaves"):format(#x, #y)) end
  for k, leaf in ipairs(x) do total = total + (leaf.number and leaf.value*y[k].value or core.sum(leaf.value*y[k].value)) end
  return total
end

local norm = core.norm
--- The norm: pl.norm(x) is Euclidean over all entries, pl.norm(x, "max") the largest, pl.norm(x, {axis = 1, order = 1}).
function pl.norm(x, what, ...)
  if what == "max" then return norm(x, {order = math.huge}) end
  return norm(x, what, ...)
end

--- Parts of x along an axis, as a list: of so many equal ones, pl.split(x, 3), or of these sizes, pl.split(x, {2, 5}, {axis = 2}).
---@param x any
---@param parts number|table
---@param options? table  {axis = 1}
---@return table
function pl.split(x, parts, options)
  local axis = 1
  for key, value in pairs(options or {}) do
    if key ~= "axis" then core.fail(("split has no option '%s'; it has axis"):format(tostring(key))) end
    axis = value
  end
  if not core.is_tensor(x) then core.fail(("split needs a tensor, not %s"):format(type(x))) end
  if axis < 0 then axis = axis + x.rank + 1 end
  local n = x.shape[axis]
  if not n then core.fail(("split: there is no axis %s among %d"):format(tostring(axis), x.rank)) end
  if type(parts) == "number" then
    if parts < 1 or n % parts ~= 0 then core.fail(("split: %d entries are not %s equal parts; give a list of sizes"):format(n, tostring(parts))) end
    local size = n/parts
    local sizes = {}
    for k = 1, parts do sizes[k] = size end
    parts = sizes
  end
  local out, first, selection, total = {}, 1, {}, 0
  for _, size in ipairs(parts) do total = total + size end
  if total ~= n then core.fail(("split: the sizes add up to %s, not %d"):format(tostring(total), n)) end
  for a = 1, x.rank do selection[a] = ":" end
  for k, size in ipairs(parts) do
    selection[axis] = {first, first + size - 1}
    out[k] = x(unpack(selection))
    first = first + size
  end
  return out
end

local trapezoid = core.trapezoid
--- The integral of y by trapezoids along an axis: pl.trapezoid(y, {dx = 0.1}), or at places x, pl.trapezoid(y, x, {axis = 1}).
function pl.trapezoid(y, x, ...)
  if core.is_tensor(x) then return trapezoid({y, x}, ...) end
  return trapezoid({y}, x, ...)
end

--- Linear in x and in y between values on a grid: pl.bilinear(x, y, xs, ys, values) at points (x, y), as pl.interp: points, places,
--- values. Without places, pl.bilinear(i, j, values), those are 1, 2, ... n. Axis 1 of the grid is x.
---
--- Beyond the grid the value is that of its edge, with derivative 0; at a place the derivative is that of the cell to the right, at the
--- last place of the cell to its left. NaN gives NaN. Gradients go to points and values, to any order, not to places.
---@param x any  points' coordinates along axis 1, of any shape {p...}
---@param y any  along axis 2; of x's shape, or broadcast with it
---@param ... any  places of both axes, ascending vectors {n} and {m}, or none; then values {..., n, m}: fields before the grid
---@return any  {..., p...}
function pl.bilinear(x, y, ...) return core.bilinear({x, y, ...}) end

--- As pl.bilinear, by cubic convolution (Keys 1981): once continuously differentiable, of third order, exact for quadratics, also at the
--- edge and on uneven places. Its second derivative jumps at places. The grid has 3 places or more along each axis.
---@return any  {..., p...}
function pl.bicubic(x, y, ...) return core.bicubic({x, y, ...}) end

--- As pl.bilinear, on a grid of three axes: pl.trilinear(x, y, z, xs, ys, zs, values), pl.trilinear(i, j, k, values).
---@return any  {..., p...}
function pl.trilinear(x, y, z, ...) return core.trilinear({x, y, z, ...}) end

-- Options with the word of `mode` as the flag of that name.
local function with_mode(what, options, words)
  if type(options) == "string" then options = {mode = options} end
  if type(options) ~= "table" or not next(options) then return nil end
  if options.mode == nil then return options end
  local copy = {}
  for key, value in pairs(options) do if key ~= "mode" then copy[key] = value end end
  for k, word in ipairs(words) do
    if options.mode == word then
      if k > 1 then copy[word] = true end -- the first is the default
      return next(copy) and copy
    end
  end
  core.fail(("%s: mode is %s, not %s"):format(what, table.concat(words, ", "), tostring(options.mode)))
end

local convolve, correlate = core.convolve, core.correlate
--- The convolution of x and h, along 1 to 3 axes: "full", "same" (of x's shape) or "valid" (where no margin enters).
---@param x any
---@param h any
---@param mode? string|table  {mode = "full"}
function pl.convolve(x, h, mode)
  return convolve(x, h, with_mode("convolve", mode, {"full", "same", "valid"}))
end

--- The correlation of x and h, along 1 to 3 axes: "full", "same" (of x's shape) or "valid" (where no margin enters).
---@param x any
---@param h any
---@param mode? string|table  {mode = "full"}
function pl.correlate(x, h, mode)
  return correlate(x, h, with_mode("correlate", mode, {"full", "same", "valid"}))
end

local gaussian_filter = core.gaussian_filter
--- x smoothed along its axes by a Gaussian of standard deviation sigma, one for all axes or a list. Beyond its ends x is
--- mirrored (mode "reflect": c b a a b c), its "nearest" element, "constant" 0 or periodic ("wrap").
---@param x any
---@param sigma number|number[]
---@param options? table  {mode = "reflect", truncate = 4, axis = all}
function pl.gaussian_filter(x, sigma, options)
  options = with_mode("gaussian_filter", options, {"reflect", "nearest", "constant", "wrap"})
  if type(sigma) ~= "table" then return gaussian_filter(x, sigma, options) end
  if not core.is_tensor(x) then x = core.tensor(x) end
  local axes = options and options.axis or {}
  if type(axes) ~= "table" then axes = {axes} end
  if not (options and options.axis) then for a = 1, x.rank do axes[a] = a end end
  if #sigma ~= #axes then core.fail(("gaussian_filter: %d sigmas for %d axes"):format(#sigma, #axes)) end
  for k, s in ipairs(sigma) do
    local one = {axis = axes[k]}
    for key, value in pairs(options or {}) do if key ~= "axis" then one[key] = value end end
    x = gaussian_filter(x, s, one)
  end
  return x
end

--- f(...) beside the recording: nothing in it is differentiated.
function pl.constant(f, ...)
  if type(f) ~= "function" then core.fail(("constant needs a function, not %s"):format(type(f))) end
  return core.pause(f, ...)
end

local function number_of(x)
  if core.is_tensor(x) then
    if x.count == 1 then return x:item() end
    return tostring(x)
  end
  return x
end

--- string.format to stdout; takes 0-d tensors where numbers go.
---@param format string
function pl.printf(format, ...)
  local args = {n = select("#", ...), ...}
  for k = 1, args.n do args[k] = number_of(args[k]) end
  local ok, text = pcall(string.format, format, unpack(args, 1, args.n))
  if not ok then core.fail("printf: " .. tostring(text):gsub("^bad argument #(%d+) to '[^']*'", function(k) return "argument " .. k end)) end
  io.stdout:write(text)
end

local settings = {dtype = "f64", threads = core.threads(), seed = 0, fft = "own"}
local setters = {
  dtype = function(x)
    if x ~= "f64" and x ~= "f32" then core.fail("the default dtype is f64 or f32") end
    core.set_default_dtype(x)
  end,
  threads = function(x) core.threads(x) end,
  seed = function() end,
  fft = function(x) core.fft_backend(tostring(x)) end,
  device = function(x) if x ~= "cpu" then core.fail(("there is no device %s here; there is cpu"):format(tostring(x))) end end,
}
settings.device = "cpu"

local function apply(options, what)
  local old = {}
  for key, value in pairs(options) do
    if not setters[key] then core.fail(("%s has no setting '%s'; it has device, dtype, fft, seed, threads"):format(what, tostring(key))) end
    setters[key](value)
    old[key], settings[key] = settings[key], value
  end
  return old
end

--- Sets defaults: dtype of what is made from numbers, threads, seed, device, fft. Without arguments, returns them. fft says who does Fourier
--- transforms: "own" (the default), or "fftw", a plugin built where FFTW is installed, faster for some lengths and slower for most long ones, the same to rounding. It
--- holds for what runs after it, functions compiled before it too.
function pl.default(options)
  if options then apply(options, "default") end
  local copy = {}
  for key, value in pairs(settings) do copy[key] = value end
  return copy
end

--- f() under other defaults, which are restored after it.
function pl.with(options, f)
  local old = apply(options, "with")
  local out = {pcall(f)}
  apply(old, "with")
  if not out[1] then error(out[2], 0) end
  return unpack(out, 2, table.maxn(out))
end

--- Command-line options --name=value, typed by their defaults: local args = pl.args{iterations = 20, model = "m.npy"}.
---@param defaults table
---@return table
function pl.args(defaults)
  local values = {}
  for key, value in pairs(defaults) do values[key] = value end
  for _, text in ipairs(rawget(_G, "arg") or {}) do
    local name, value = text:match("^%-%-([%w_]+)=(.*)$")
    if not name then name, value = text:match("^%-%-([%w_]+)$"), "true" end
    if not name or defaults[name] == nil then
      local names = {}
      for key in pairs(defaults) do names[#names + 1] = "--" .. key end
      table.sort(names)
      core.fail(("'%s' is not understood; there are %s"):format(text, table.concat(names, ", ")))
    end
    if type(defaults[name]) == "number" then
      values[name] = tonumber(value) or core.fail(("--%s needs a number, not '%s'"):format(name, value))
    elseif type(defaults[name]) == "boolean" then
      values[name] = value == "true"
    else
      values[name] = value
    end
  end
  return values
end

--- What there is to say of an op or a function: pl.help("softplus"), pl.help("scan"), pl.help("sparse.diags").
---@param name string
function pl.help(name)
  local text = type(name) == "string" and require("perilune.help").text(pl, name)
  if not text then core.fail(("there is nothing to say of '%s': it is no op and no function of Perilune"):format(tostring(name))) end
  print(text)
end

-- How many are true along the axes of a reduction (all without any), and of how many.
local function trues(m, what, ...)
  if not core.is_tensor(m) or m.dtype ~= "bool" then core.fail(("%s needs a tensor of bool (a comparison's result)"):format(what)) end
  local count = core.sum(core.cast(m, "i64"), ...)
  return count, m.count/math.max(count.count, 1), select("#", ...) == 0
end

--- Are all true? Of all entries a Lua boolean; along an axis, pl.all(m, 2) or {axis = 2}, a tensor of bool.
function pl.all(m, ...)
  local count, n, whole = trues(m, "all", ...)
  if whole then return count:item() == n end
  return count:eq(n)
end

--- Is any true? As pl.all.
function pl.any(m, ...)
  local count, _, whole = trues(m, "any", ...)
  if whole then return count:item() > 0 end
  return count:gt(0)
end

--- Bytes in use, at most, the budget, and how many values live; pl.memory(bytes) sets the budget.
function pl.memory(budget)
  if budget then core.set_budget(budget) end
  return core.memory()
end

return pl
