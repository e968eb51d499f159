-- luajit embed_text.lua out.c file ...: texts as a table in C, by their files' names.
local out = assert(io.open(arg[1], "w"))
local entries = {}
for k = 2, #arg do
  local file = assert(io.open(arg[k], "rb"))
  local text = file:read("*a")
  file:close()
  local bytes = {}
  for i = 1, #text do bytes[i] = text:byte(i) end
  out:write(("static const char text_%d[] = {%s};\n"):format(k, table.concat(bytes, ",") .. ",0"))
  entries[#entries + 1] = ('{"%s", text_%d}, '):format(arg[k]:match("[^/]*$"), k)
end
out:write(("extern const struct pl_text { const char *name, *text; } pl_texts[];\nconst struct pl_text pl_texts[] = {%s{0, 0}};\n"):format(table.concat(entries)))
out:close()
