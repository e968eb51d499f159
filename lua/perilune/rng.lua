-- Streams of random numbers: counter-based (Philox), so that the numbers depend on the seed and the order of draws alone.
--
-- Inside a traced function the seed, the stream and its position are numbers of the outermost trace: a program draws from where
-- the stream stands when it is called. A level is an open trace. The steps of a loop's level draw one after another: step k is k
-- times what a step draws further on, as in a Lua loop; how much that is is set when the level ends.
local core = require "perilune.core"
local program = core.program

local rng = {}
local state = setmetatable({}, {__mode = "k"}) -- of a stream: {seed, stream, position, home: id of the level that made it}
local levels, ids = {}, 0
local LIMIT = 2^52 -- positions are below

-- ---- levels ----

local Level = {}
Level.__index = Level

--- A trace has been opened. step: its input that counts the steps of a loop from 0 on, if it has one; n: how many there are.
function rng.enter(trace, step, n)
  ids = ids + 1
  local level = setmetatable({trace = trace, step = step, n = n, id = ids, depth = #levels + 1, start = {}, keys = {}, drawn = {}, strides = {}}, Level)
  levels[level.depth] = level
  return level
end

--- Ends the level, before its trace is closed; the levels inside are gone.
function Level:leave()
  for k = #levels, self.depth, -1 do levels[k] = nil end
  for s, start in pairs(self.start) do
    local stride = (s.position - start) % LIMIT
    if self.step then
      if self.strides[s] then self.trace:set(self.strides[s].cell, stride) end
      s.position = (start + self.n*stride) % LIMIT
    end
  end
end

--- Is the number of the step read?
function Level:counts() return next(self.strides) ~= nil end

--- The streams stand again where they did, when what was traced is not to run.
function Level:rewind()
  for k = #levels, self.depth, -1 do levels[k] = nil end
  for s, start in pairs(self.start) do s.position = start end
end

--- For a program that is called again and again: the cells that hold positions, and what they are in a call, whose draws the
--- function counts. nil when it draws from no stream but its own. The streams stand where they did.
function Level:per_call()
  if next(self.start) == nil then return nil end
  local cells, streams, offsets, totals = {}, {}, {}, {}
  for s, start in pairs(self.start) do
    totals[s] = (s.position - start) % LIMIT
    s.position = start
  end
  for _, draw in ipairs(self.drawn) do -- those made inside begin anew in each call
    local k, start = #cells + 1, self.start[draw.stream]
    if start then cells[k], streams[k], offsets[k] = draw.cell, draw.stream, (draw.position - start) % LIMIT end
  end
  return cells, function()
    local list = {}
    for k, s in ipairs(streams) do list[k] = (s.position + offsets[k]) % LIMIT end
    for s, total in pairs(totals) do s.position = (s.position + total) % LIMIT end
    return list
  end
end

-- ---- streams ----

local methods = {}
local prototype = newproxy(true) -- no table: a module that holds a stream is copied, and all copies draw from one stream
local meta = getmetatable(prototype)

local function new(seed, stream)
  local self = newproxy(prototype)
  local top = levels[#levels]
  state[self] = {seed = seed, stream = stream, position = 0, home = top and top.id}
  return self
end

local function state_of(self, what)
  local s = state[self]
  if not s then core.fail(("rng:%s is a method: it needs a random stream (pl.rng(seed)), not %s"):format(what, type(self))) end
  return s
end

-- The index of the level that the stream was made in; 0: outside of all that are open.
local function home_of(s)
  for k = #levels, 1, -1 do
    if levels[k].id == s.home then return k end
  end
  if type(s.stream) ~= "number" then core.fail "this random stream was split off inside a traced function that has ended" end
  return 0
end

-- Where a draw of count numbers begins: position, seed and stream as values of the open traces. The stream moves on.
local function key_of(s, count)
  local home, outer = home_of(s), levels[1]
  local keys = outer.keys[s]
  if not keys then
    keys = {seed = outer.trace:integer(s.seed), stream = s.stream}
    if type(s.stream) == "number" then keys.stream = outer.trace:integer(s.stream) end
    outer.keys[s] = keys
  end
  local position, cell = outer.trace:integer(s.position)
  outer.drawn[#outer.drawn + 1] = {stream = s, cell = cell, position = s.position}
  for k = home + 1, #levels do
    local level = levels[k]
    level.start[s] = level.start[s] or s.position
    if level.step then
      local stride = level.strides[s]
      if not stride then
        stride = {}
        stride.value, stride.cell = level.trace:integer(0)
        level.strides[s] = stride
      end
      position = position + level.step*stride.value
    end
  end
  s.position = (s.position + count) % LIMIT
  return position, keys.seed, keys.stream
end

local ops = setmetatable({}, {__index = function(t, name)
  t[name] = core.random(name)
  return t[name]
end})
-- `count` numbers of op random_<name>; ...: its parameters.
local function draw(s, name, shape, count, ...)
  local position, seed, stream = s.position, s.seed, s.stream
  if program.tracing() and #levels > 0 then
    position, seed, stream = key_of(s, count)
  else
    home_of(s)
    s.position = (position + count) % LIMIT
  end
  return ops[name](shape, position, seed, stream, ...)
end

require "perilune.variates"(methods, draw, state_of)

--- k independent streams: their keys are drawn from this one.
---@param k integer
---@return table
function methods:split(k)
  local s = state_of(self, "split")
  if type(k) ~= "number" or k < 0 or k ~= math.floor(k) or k > 1e6 then core.fail(("rng:split(k): %s is no number of streams"):format(tostring(k))) end
  local streams = {}
  for i = 1, k do
    local key = draw(s, "integers", {}, 1, 1, LIMIT)
    streams[i] = new(s.seed, program.tracing() and key or key:item())
  end
  return streams
end

function meta.__index(self, key)
  if methods[key] then return methods[key] end
  local s = state[self]
  return s and (key == "seed" or key == "position") and s[key] or nil
end
function meta.__tostring(self)
  local s = state[self]
  return s and ("random stream of seed %d at %d"):format(s.seed, s.position) or "random stream"
end

--- A stream of random numbers, which depend on the seed and the order of draws alone, not on threads or devices. Made inside a
--- traced function, it begins anew with each call.
---@param seed integer
function rng.new(seed)
  if type(seed) ~= "number" or seed ~= math.floor(seed) or math.abs(seed) > 2^53 then core.fail("rng needs a whole number as its seed") end
  return new(seed, 0)
end

return rng
