-- Streams of random numbers: counter-based (Philox), so that the numbers depend on the seed and the order of draws alone.
local core = require "perilune.core"

local Stream = {}
Stream.__index = Stream

local function options(self, what, ...)
  local n = select("#", ...)
  local last = select(n, ...)
  local shape, o = {...}, {}
  if n == 1 and type(last) == "table" and #last > 0 then
    shape = {unpack(last)}
    o = last
  elseif type(last) == "table" then
    shape[n] = nil
    o = last
  end
  for key in pairs(o) do
    if type(key) == "string" and key ~= "lo" and key ~= "hi" then core.fail(("rng:%s has no option '%s'; it has lo, hi"):format(what, key)) end
  end
  local count = 1
  for _, size in ipairs(shape) do
    if type(size) ~= "number" or size < 0 or size ~= math.floor(size) then core.fail(("rng:%s: %s is no size of an axis"):format(what, tostring(size))) end
    count = count*size
  end
  local position = self.position
  self.position = position + count
  return shape, position, o
end

--- Uniform numbers in (lo, hi), (0, 1) by default: rng:uniform(n, m), rng:uniform(n, {lo = -1, hi = 1}).
function Stream:uniform(...)
  local shape, position, o = options(self, "uniform", ...)
  return core.random("random_uniform", shape, self.seed, self.stream, position, o.lo or 0, o.hi or 1)
end

--- Standard normal numbers: rng:normal(n, m).
function Stream:normal(...)
  local shape, position = options(self, "normal", ...)
  return core.random("random_normal", shape, self.seed, self.stream, position)
end

--- Whole numbers lo to hi, both included: rng:integers(lo, hi, n, m).
function Stream:integers(lo, hi, ...)
  local whole = type(lo) == "number" and type(hi) == "number" and lo == math.floor(lo) and hi == math.floor(hi)
  if not whole then core.fail("rng:integers(lo, hi, n ...): lo and hi are whole numbers") end
  local shape, position = options(self, "integers", ...)
  return core.random("random_integers", shape, self.seed, self.stream, position, lo, hi)
end

--- k independent streams.
---@return table
function Stream:split(k)
  local streams = {}
  for i = 1, k do
    self.children = self.children + 1
    streams[i] = setmetatable({seed = self.seed, stream = (self.stream*1009 + self.children) % 2^52, position = 0, children = 0}, Stream)
  end
  return streams
end

function Stream:__tostring() return ("random stream of seed %d at %d"):format(self.seed, self.position) end

--- A stream of random numbers.
---@param seed integer
return function(seed)
  if type(seed) ~= "number" or seed ~= math.floor(seed) then core.fail("rng needs a whole number as its seed") end
  return setmetatable({seed = seed, stream = 0, position = 0, children = 0}, Stream)
end
