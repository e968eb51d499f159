-- What parameters of distributions may be. As numbers they are checked; as entries of tensors those out of their domain make NaN.
local core = require "perilune.core"

local kinds = {
  number = {"a number", function(x) return x == x end},
  positive = {"a positive number", function(x) return x > 0 end},
  not_negative = {"0 or a positive number", function(x) return x >= 0 end},
  probability = {"between 0 and 1", function(x) return x >= 0 and x <= 1 end},
  count = {"a whole number, 0 or above", function(x) return x >= 0 and x == math.floor(x) and x <= 2^53 end},
}

-- An error unless the value is a tensor or a number of the kind; what: who asks, for the message.
return function(what, name, kind, value)
  if core.is_tensor(value) then return end
  if type(value) ~= "number" then core.fail(("%s: %s is a number or a tensor, not %s"):format(what, name, type(value))) end
  if not kinds[kind][2](value) then core.fail(("%s: %s is %s, not %.17g"):format(what, name, kinds[kind][1], value)) end
end
