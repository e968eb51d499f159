-- Ops that a script defines: pl.op from Lua functions, pl.load_op from C files.
local core = require "perilune.core"

local user_op = {}

local kinds = {name = "string", forward = "function", vjp = "function", jvp = "function", shape = "function", inputs = "number", outputs = "number"}

local function packed(first, n, ...)
  local list = {}
  for k = 1, n do list[k] = (select(first + k - 1, ...)) end
  return list
end

--- A new op: a function of tensors that takes part in everything ops do (gradients, loops, compiled programs).
---
--- Its rules are called with tensors that have data, so x:item(), x:totable(), loops and ffi.cast("const double *", x:pointer())
--- work in them; results may be tensors, numbers, tables or buffers. The arguments are stale after the call (:detach() keeps one).
--- A rule is a function of its arguments alone: what else it reads is a constant to derivatives, a value that an enclosing derivative
--- depends on is an error, and equal calls may be made once.
---
--- One of vjp and jvp is enough: the other is made from it. For that, and for second derivatives, a rule is traced, and must then be
--- written in pl's operations; nil or false for a result means zero. In an op with several outputs g and out are lists.
---
---     local cube = pl.op{name = "cube", forward = function(x) return x*x*x end, vjp = function(g, out, x) return 3*g*x*x end}
---
---@param options table  {
---  name     letters, digits and _; not that of a built-in op (default "op")
---  forward  x1, x2, ... -> outputs, like x1 unless a shape rule says otherwise
---  vjp      g, out, x1, x2, ... -> the cotangent of each x, shaped like it, from that of the output, g
---  jvp      t1, t2, ..., out, x1, x2, ... -> the tangent of the output from those of the arguments
---  inputs   how many arguments (default: the parameters of forward)
---  outputs  how many results (default 1)
---  shape    {n1, ..., dtype = "f64"} for each argument -> {m1, ..., dtype = "f64"} for each output; the dtype may be left out }
---@return function
function user_op.op(options)
  if type(options) ~= "table" then core.fail(("op needs a table {forward = f, vjp = ...}, not %s"):format(options == nil and "nil" or type(options))) end
  for key, value in pairs(options) do
    if not kinds[key] then
      core.fail(("op has no option '%s'; it has forward, inputs, jvp, name, outputs, shape, vjp"):format(tostring(key)))
    end
    if type(value) ~= kinds[key] then core.fail(("op: %s must be a %s, not %s"):format(key, kinds[key], type(value))) end
  end
  local name, forward, vjp, jvp = options.name or "op", options.forward, options.vjp, options.jvp
  if not forward then core.fail(("op %s: forward is missing"):format(name)) end
  local inputs, outputs = options.inputs, options.outputs or 1
  if not inputs then
    local info = debug.getinfo(forward, "u")
    if not info.nparams or info.isvararg or info.nparams == 0 then
      core.fail(("op %s: the number of its arguments cannot be seen in forward; give inputs = n"):format(name))
    end
    inputs = info.nparams
  end
  local rules = {forward = forward, shape = options.shape, vjp = vjp, jvp = jvp}
  if outputs ~= 1 then
    if vjp then rules.vjp = function(...) return vjp(packed(1, outputs, ...), packed(outputs + 1, outputs, ...), select(2*outputs + 1, ...)) end end
    if jvp then
      rules.jvp = function(...)
        local args, x = packed(1, inputs, ...), packed(inputs + outputs + 1, inputs, ...)
        args[inputs + 1] = packed(inputs + 1, outputs, ...)
        for k = 1, inputs do args[inputs + 1 + k] = x[k] end
        return jvp(unpack(args, 1, 2*inputs + 1))
      end
    end
  end
  return core.user_ops.define(name, inputs, outputs, rules)
end

--- The op that a C file defines in the dialect of the engine's kernels (kernels/perilune_op.h says how): compiled for this machine by $CC or cc the first
--- time, then taken from $XDG_CACHE_HOME/perilune/ops or ~/.cache/perilune/ops. Compiler errors are errors here.
---@param path string
---@return function
function user_op.load_op(path)
  if type(path) ~= "string" then core.fail(("load_op needs the path of a C file, not %s"):format(path == nil and "nil" or type(path))) end
  return (core.user_ops.load(path))
end

return user_op
