-- What specs expect alike.
local assert = require "luassert"

local expect = {}

--- f(...) fails with a message that has this text, which is returned.
function expect.fails(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
  return message
end

return expect
