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

--- Tensors of one shape (b may be a number), nowhere further apart than the tolerance; NaN is.
function expect.near(a, b, tolerance)
  local pl = require "perilune"
  if type(b) ~= "number" then assert.are.same(b.shape, a.shape) end
  local off = pl.max(pl.abs(a - b)):item()
  assert.is_true(off <= tolerance, ("off by %g"):format(off))
end

return expect
