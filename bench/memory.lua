-- Peak resident memory over many evaluations of a gradient: growth in per cent after the first tenth. Arguments: evaluations, size
-- of the parameter (2^20 numbers make temporaries of 8 MB). Prints "growth megabytes".
local pl = require "perilune"
local rounds, size = tonumber(arg[1]) or 1e6, tonumber(arg[2]) or 8

local function resident()
  for line in io.lines("/proc/self/status") do
    local kb = line:match("^VmHWM:%s*(%d+)")
    if kb then return tonumber(kb)/1024 end
  end
end

local x = pl.full({size}, 0.5)
local gradient = pl.grad(function(p)
  local y = pl.tanh(p*p + p)
  return pl.sum(y*p)
end)
for _ = 1, 200 do resident() end -- its own memory comes first
local start, most = nil, 0
for k = 1, rounds do
  gradient(x)
  if k == math.floor(rounds/10) then start = resident() end
  if start and k % math.ceil(rounds/50) == 0 then most = math.max(most, resident()) end
end
print(("%.2f %.1f"):format(100*(most/start - 1), most))
