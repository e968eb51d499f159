-- The chain of chain.c through Lua, in three shapes: a hot loop, 200 straight-line statements, a hot loop after straight-line
-- code. Prints "forward both" in ns an op for each, then the value and a gradient entry.
local pl = require "perilune"
local core = require "perilune.core"
local now = dofile "bench/clock.lua"

local x0, a, b = {}, {}, {}
for i = 0, 7 do x0[i + 1], a[i + 1], b[i + 1] = 0.1*(i + 1), 0.9 + 0.01*i, 0.05*i end
local p0 = {a = pl.tensor(a), b = pl.tensor(b), x = pl.tensor(x0)}

local function loop(p)
  local x, m, c = p.x, p.a, p.b
  for _ = 1, 50 do
    x = x*m
    x = x + c
    x = pl.tanh(x)
    x = x - c
  end
  return pl.sum(x)
end

local lines = {"local pl = ... return function(p) local x, m, c = p.x, p.a, p.b"}
for _ = 1, 50 do lines[#lines + 1] = "x = x*m\nx = x + c\nx = pl.tanh(x)\nx = x - c" end
lines[#lines + 1] = "return pl.sum(x) end"
local straight = assert(loadstring(table.concat(lines, "\n"), "=straight"))(pl)

local function median(t) table.sort(t); return t[math.ceil(#t/2)] end

local function measure(f, rounds)
  local both = pl.value_and_grad(f)
  local forward, total = {}, {}
  for r = 1, rounds do
    local t0 = now()
    local region, inputs = core.open({p0.a, p0.b, p0.x}, {})
    f{a = inputs[1], b = inputs[2], x = inputs[3]}
    local t1 = now()
    region:free()
    local t2 = now()
    both(p0)
    local t3 = now()
    forward[r], total[r] = (t1 - t0)/200, (t3 - t2)/200
  end
  return 1e9*median(forward), 1e9*median(total)
end

local rounds = tonumber(arg and arg[1]) or 2000
local f1, b1 = measure(loop, rounds)
local f2, b2 = measure(straight, rounds)
local f3, b3 = measure(function(p) return loop(p) end, rounds)
local value, g = pl.value_and_grad(loop)(p0)
print(("%.1f %.1f %.1f %.1f %.1f %.1f %.17g %.17g"):format(f1, b1, f2, b2, f3, b3, value:item(), g.a:item(4)))
