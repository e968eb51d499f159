-- Tables of options.
local core = require "perilune.core"

-- The options, or an empty table; an unknown key is an error that lists the valid ones, the keys of `valid`.
local function check(options, valid, what)
  if options ~= nil and type(options) ~= "table" then core.fail(("%s: the options are a table, not %s"):format(what, type(options))) end
  for key in pairs(options or {}) do
    if not valid[key] then
      local names = {}
      for name in pairs(valid) do names[#names + 1] = name end
      table.sort(names)
      core.fail(("%s has no option '%s'; it has %s"):format(what, tostring(key), table.concat(names, ", ")))
    end
  end
  return options or {}
end

return {check = check}
