-- The reference, from the op table and the comments above the language's functions: `./run docs/reference.lua > docs/reference.md`.
local pl = require "perilune"
local core = require "perilune.core"
local help = require "perilune.help"

local ops, is_op = core.ops(), {}
for _, name in ipairs(ops) do is_op[name] = true end
table.sort(ops)

print [[
# Reference

Made by `./run docs/reference.lua > docs/reference.md` from the op table and from the comments above the language's functions; `pl.help(name)`
says the same. Shapes are lists, first axis first; axes, places and ranges count from 1, negative ones from the end.

## Ops

Every op is `pl.name(x, ...)`, and `x:name(...)` where x is a tensor; attributes in braces follow by position, or by name in a last
table. f64 and f32 unless the formula says otherwise; integers become f64 where the result is none. Derivatives of any order exist in
both modes unless it says otherwise; at kinks they are what is said here.
]]
for _, name in ipairs(ops) do
  if not rawget(pl, name) or pl[name] == core[name] then
    local h = core.op_help(name)
    print(("- **%s**%s: %s"):format(name, #h.attributes > 0 and " `{" .. table.concat(h.attributes, ", ") .. "}`" or "", h.formula))
    for _, field in ipairs {"shapes", "derivative", "accuracy", "source"} do
      local quote = field == "shapes" and "`" or ""
      if h[field] then print(("  - %s: %s%s%s"):format(field, quote, h[field], quote)) end
    end
  end
end

local function section(title, prefix, module)
  print(("\n## %s\n"):format(title))
  local names = {}
  for name, f in pairs(module) do
    local meta = type(f) == "table" and getmetatable(f)
    if type(name) == "string" and (type(f) == "function" or (meta and meta.__call)) and not (is_op[name] and f == core[name]) then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local text = help.text(pl, prefix .. name)
    if text then print("```\n" .. text .. "\n```\n") end
  end
end
assert(pl.minimize and pl.einsum)
section("Functions", "", pl)
section("Sparse matrices", "sparse.", pl.sparse)
section("Methods of sparse matrices", "sparse.Matrix.", pl.sparse.Matrix)
section("Networks", "nn.", pl.nn)
section("Files", "io.", pl.io)
