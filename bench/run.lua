-- Called by bench/run: runs the programs in turn, peers between them, and prints the table.
local peers, mode = arg[1], arg[2]
local python = peers .. "/bin/python"
local has_peers = os.execute("test -x " .. python) == 0

local function run(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read("*a")
  pipe:close()
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = tonumber(word) or word end
  return words, text
end

local function line(path, pattern)
  local file = io.open(path)
  if not file then return "?" end
  for text in file:lines() do
    local found = text:match(pattern)
    if found then file:close(); return found end
  end
  file:close()
  return "?"
end

local ours = "build/release/perilune "
local rows = {}
local function row(what, mine, peer, ratio, right, target) rows[#rows + 1] = {what, mine, peer, ratio, right, target} end
local function least(t) table.sort(t, function(a, b) return a[2] < b[2] end); return t[1] end

-- The chain, three times in turn with the peer between.
local engine, through, torch = {}, {}, {}
for k = 1, 3 do
  engine[k] = run("build/release/bench/bench_chain")
  through[k] = run(ours .. "bench/chain.lua")
  if has_peers then torch[k] = run(python .. " bench/chain.py") end
end
local e, l, t = least(engine), least(through), torch[1] and type(torch[1][2]) == "number" and least(torch)
local function beside(mine, column) return t and ("%.1f ns"):format(t[column]) or "missing", t and ("%.1f"):format(t[column]/mine) or "-" end
local right = t and ("gradient %.1e from the peer's"):format(math.abs(l[8]/t[4] - 1)) or "-"
local p, r = beside(e[1], 1)
row("chain, engine alone, forward", ("%.1f ns"):format(e[1]), p, r, ("same bits as Lua: %s"):format(tostring(e[4] == l[8])), "45 ns")
p, r = beside(e[2], 2)
row("chain, engine alone, with gradient", ("%.1f ns"):format(e[2]), p, r, right, "110 ns")
for k, shape in ipairs{"hot loop", "200 statements", "loop after them"} do
  p, r = beside(l[2*k - 1], 1)
  row("chain through Lua, " .. shape .. ", forward", ("%.1f ns"):format(l[2*k - 1]), p, r, "", "100 ns")
  p, r = beside(l[2*k], 2)
  row("chain through Lua, " .. shape .. ", with gradient", ("%.1f ns"):format(l[2*k]), p, r, right, "160 ns or 25 times")
end

local best
for _ = 1, 3 do
  local w = run(ours .. "bench/laplace.lua")
  if not best or w[2]/w[1] < best[2]/best[1] then best = w end
end
local scipy = has_peers and run(python .. " bench/laplace.py")
row("Laplacian 300 x 300, forward solve", ("%.1f ms"):format(1e3*best[1]), scipy and type(scipy[1]) == "number" and ("%.1f ms (SciPy)"):format(1e3*scipy[1]) or "missing",
  scipy and type(scipy[1]) == "number" and ("%.1f"):format(scipy[1]/best[1]) or "-", "", "")
row("Laplacian 300 x 300, value and gradient", ("%.1f ms"):format(1e3*best[2]), ("%.1f ms (forward)"):format(1e3*best[1]), ("%.2f of it"):format(best[2]/best[1]),
  ("slope off by %.0e"):format(best[3]), "1.15 of forward")

local quick = mode == "quick"
local small = run(ours .. ("bench/memory.lua %d 8"):format(quick and 1e5 or 1e6))
local large = run(ours .. ("bench/memory.lua %d %d"):format(quick and 500 or 1e4, 2^20))
row(("memory, %s gradients of 8 numbers"):format(quick and "10^5" or "10^6"), ("%.1f MB"):format(small[2]), "", ("grows %.2f %%"):format(small[1]), "", "1 %")
row(("memory, %s gradients with 8 MB temporaries"):format(quick and "500" or "10^4"), ("%.1f MB"):format(large[2]), "", ("grows %.2f %%"):format(large[1]), "", "1 %")

local start = {}
for k = 1, 10 do
  local ffi = require "ffi"
  pcall(ffi.cdef, "typedef struct { long s, ns; } bench_time; int clock_gettime(int, bench_time *);")
  local c = ffi.new "bench_time"
  ffi.C.clock_gettime(1, c)
  local t0 = tonumber(c.s) + 1e-9*tonumber(c.ns)
  os.execute(ours .. "-e ''")
  ffi.C.clock_gettime(1, c)
  start[k] = {0, tonumber(c.s) + 1e-9*tonumber(c.ns) - t0}
end
row("perilune -e ''", ("%.1f ms"):format(1e3*least(start)[2]), "", "", "", "20 ms")

local _, version = run(ours .. "--version")
print(("%s; %s; %s cores; glibc %s; %s"):format((version:gsub("\n", "")), line("/proc/cpuinfo", "model name%s*:%s*(.*)"),
  (select(2, run "nproc"):gsub("%s", "")), (select(2, run "getconf GNU_LIBC_VERSION"):gsub("glibc ", ""):gsub("%s", "")),
  t and "PyTorch " .. tostring(t[5]) or "PyTorch is missing: bench/peers installs it"))
print()
local head = {"what", "ours", "peer", "ratio", "correctness", "target"}
local width = {}
for c = 1, 6 do
  width[c] = #head[c]
  for _, cells in ipairs(rows) do width[c] = math.max(width[c], #cells[c]) end
end
local function show(cells)
  local parts = {}
  for c = 1, 6 do parts[c] = cells[c] .. (" "):rep(width[c] - #cells[c]) end
  print("| " .. table.concat(parts, " | ") .. " |")
end
show(head)
local rule = {}
for c = 1, 6 do rule[c] = ("-"):rep(width[c]) end
show(rule)
for _, cells in ipairs(rows) do show(cells) end
