-- luajit embed.lua out.c file.lua ...: the language's Lua files as a table in C. perilune/tree.lua is module
-- "perilune.tree", perilune/init.lua "perilune", models/x.lua "perilune.models.x".
local out = assert(io.open(arg[1], "w"))
out:write("#include <stddef.h>\n")
local names = {}
for k = 2, #arg do
  local file = assert(io.open(arg[k], "rb"))
  local text = file:read("*a")
  file:close()
  names[#names + 1] = {arg[k]:gsub("^lua/", ""):gsub("^models/", "perilune/models/"):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", "."), #text}
  local bytes = {}
  for i = 1, #text do bytes[i] = text:byte(i) end
  out:write(("static const unsigned char source_%d[] = {%s};\n"):format(#names, table.concat(bytes, ",") .. ",0"))
end
out:write("extern const struct pl_lua_module { const char *name; const char *source; size_t length; } pl_lua_modules[];\n")
out:write("const struct pl_lua_module pl_lua_modules[] = {\n")
for i, entry in ipairs(names) do out:write(('  {"%s", (const char *)source_%d, %d},\n'):format(entry[1], i, entry[#entry])) end
out:write("  {0, 0, 0},\n};\n")
out:close()
