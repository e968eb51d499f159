-- The places of frequencies that Fourier transforms return.
local core = require "perilune.core"

local function check(name, n, d)
  if type(n) ~= "number" or n < 1 or n % 1 ~= 0 then core.fail(("%s: the number of samples is whole and at least 1, not %s"):format(name, tostring(n))) end
  if type(d) ~= "number" or d == 0 or d ~= d then core.fail(("%s: the spacing is a number other than 0, not %s"):format(name, tostring(d))) end
end

local function count(first, last, options)
  if options then return core.arange(first, last, options) end
  return core.arange(first, last)
end

local fourier = {}

--- The frequencies of pl.fft of n samples that are d apart, in cycles per unit of d: 0, 1, ... , then the negative ones to -1, over n d.
---@param n number  samples
---@param d? number  their spacing, 1 by default
---@param options? table  {dtype = "f32"}
---@return any  {n}
function fourier.fftfreq(n, d, options)
  d = d or 1
  check("fftfreq", n, d)
  local half = math.floor(n/2)
  return core.concat{count(0, n - half - 1, options), count(-half, -1, options)}/(n*d)
end

--- The frequencies of pl.rfft of n samples that are d apart: 0, 1, ... n/2, over n d.
---@param n number  samples
---@param d? number  their spacing, 1 by default
---@param options? table  {dtype = "f32"}
---@return any  {n/2 + 1}
function fourier.rfftfreq(n, d, options)
  d = d or 1
  check("rfftfreq", n, d)
  return count(0, math.floor(n/2), options)/(n*d)
end

return fourier
