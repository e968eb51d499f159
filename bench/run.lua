-- Called by bench/run: runs the programs in turn, peers between them, and prints the table. The second argument is full, quick, or
-- the name of a program of programs.lua, which then runs alone.
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

local quick = mode == "quick"
local names = {"scalar40", "heat", "elementwise", "mlp20", "mlp256", "network", "pinn", "trace1000", "families", "sparse"}
local alone
for _, name in ipairs(names) do alone = alone or mode == name and name end
local peer_version

if not alone then
  -- The chain, three times in turn with the peer between.
  local engine, through, torch = {}, {}, {}
  for k = 1, 3 do
    engine[k] = run("build/release/bench/bench_chain")
    through[k] = run(ours .. "bench/chain.lua")
    if has_peers then torch[k] = run(python .. " bench/chain.py") end
  end
  local e, l, t = least(engine), least(through), torch[1] and type(torch[1][2]) == "number" and least(torch)
  peer_version = t and "PyTorch " .. tostring(t[5])
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
  local solved = scipy and type(scipy[1]) == "number" and scipy[1]
  row("Laplacian 300 x 300, forward solve", ("%.1f ms"):format(1e3*best[1]), solved and ("%.1f ms (SciPy)"):format(1e3*solved) or "missing",
    solved and ("%.1f"):format(solved/best[1]) or "-", "", "")
  row("Laplacian 300 x 300, value and gradient", ("%.1f ms"):format(1e3*best[2]), ("%.1f ms (forward)"):format(1e3*best[1]), ("%.2f of it"):format(best[2]/best[1]),
    ("slope off by %.0e"):format(best[3]), "1.12 of forward")
  local adjoint = solved and type(scipy[3]) == "number" and scipy[3]
  row("Laplacian 300 x 300, solve and adjoint", ("%.1f ms"):format(1e3*best[2]), adjoint and ("%.1f ms (SciPy, two spsolve)"):format(1e3*adjoint) or "missing",
    adjoint and ("%.1f"):format(adjoint/best[2]) or "-", "", "3 times")
  for _, side in ipairs{300, 1000} do
    local rounds = side == 300 and 9 or 3
    local c = run(("build/release/bench/bench_cholmod %d %d"):format(side, rounds))
    local own = run(ours .. ("bench/laplace.lua %d %d"):format(side, rounds))
    row(("Laplacian %d x %d, factorization and solve"):format(side, side), ("%.1f ms"):format(1e3*own[4]), ("%.1f ms (CHOLMOD from C)"):format(1e3*c[1]),
      ("%.2f of it"):format(own[4]/c[1]), ("gradient %.2f of forward"):format(own[2]/own[1]), "1.05 of it")
  end

  local small = run(ours .. ("bench/memory.lua %d 8"):format(quick and 1e5 or 1e6))
  local large = run(ours .. ("bench/memory.lua %d %d"):format(quick and 500 or 1e4, 2^20))
  row(("memory, %s gradients of 8 numbers"):format(quick and "10^5" or "10^6"), ("%.1f MB"):format(small[2]), "", ("grows %.2f %%"):format(small[1]), "", "1 %")
  row(("memory, %s gradients with 8 MB temporaries"):format(quick and "500" or "10^4"), ("%.1f MB"):format(large[2]), "", ("grows %.2f %%"):format(large[1]), "", "1 %")

  local now, start = dofile "bench/clock.lua", {}
  for k = 1, 10 do
    local before = now()
    os.execute(ours .. "-e ''")
    start[k] = {0, now() - before}
  end
  row("perilune -e ''", ("%.1f ms"):format(1e3*least(start)[2]), "", "", "", "20 ms")
end

-- ---- whole programs ----

-- The numbers of a program's last line; notices and warnings come before it. False, with the output on stderr, where it failed.
local function numbers(command)
  local _, text = run(command)
  local last, words = text:match("([^\n]*)%s*$"), {}
  for word in last:gmatch("%S+") do words[#words + 1] = tonumber(word) or word end
  if type(words[1]) ~= "number" then io.stderr:write(command, ":\n", text) end
  return type(words[1]) == "number" and words
end

local function keep_least(best, words, times)
  if not best or not words then return best or words end
  for k = 1, times do best[k] = math.min(best[k], words[k]) end
  return best
end

-- A program's numbers and those of its peers, rows of programs.py, measured in turn: the first `times` are the least of three rounds.
local function measure(name, times, peer_times)
  local mine, theirs = nil, {}
  for _ = 1, quick and 1 or 3 do
    mine = keep_least(mine, numbers(ours .. "bench/programs.lua " .. name), times)
    for peer, columns in pairs(has_peers and peer_times or {}) do
      theirs[peer] = keep_least(theirs[peer], numbers(python .. " bench/programs.py " .. peer), columns)
    end
  end
  if not mine then row(name, "failed", "", "", "", "") end
  return mine, theirs
end

local function ms(t) return t < 1e-4 and ("%.2f us"):format(1e6*t) or t < 0.1 and ("%.3g ms"):format(1e3*t) or ("%.0f ms"):format(1e3*t) end
local function against(what, mine, theirs, peer, right, target)
  row(what, ms(mine), theirs and ("%s (%s)"):format(ms(theirs), peer) or "missing", theirs and ("%.1f"):format(theirs/mine) or "-", right or "", target or "")
end
local function within(what, mine, reference, name, right, target)
  row(what, ms(mine), ("%s (%s)"):format(ms(reference), name), ("%.2f of it"):format(mine/reference), right or "", target or "")
end

-- The largest relative difference between `count` numbers that begin at a and at b.
local function apart(mine, a, theirs, b, count)
  if not theirs then return "" end
  local worst = 0
  for k = 0, count - 1 do worst = math.max(worst, math.abs(mine[a + k]/theirs[b + k] - 1)) end
  return ("%.0e from the peer's"):format(worst)
end

local program = {}

function program.scalar40()
  local m, p = measure("scalar40", 1, {scalar40 = 1})
  if m then against("40 scalar ops, value and gradient", m[1], p.scalar40 and p.scalar40[1], "JAX", apart(m, 2, p.scalar40, 2, 4), "10") end
end

function program.heat()
  local m, p = measure("heat", 2, {heat = 1, heat_jax = 1})
  if not m then return end
  local torch, jax = p.heat, p.heat_jax
  against("heat 64 x 64, 1,000 steps, value and gradient", m[1], torch and torch[1], "PyTorch", apart(m, 5, torch, 2, 3), "8")
  against("heat 64 x 64, 1,000 steps, value and gradient", m[1], jax and jax[1], "JAX", apart(m, 5, jax, 2, 3))
  row("heat, peak memory", ("%.1f MB"):format(m[3]/1e6), ("%.1f MB (trajectory)"):format(m[4]/1e6), ("%.2f of it"):format(m[3]/m[4]), "", "1.10 of it")
  within("heat, 100 checkpoints", m[2], m[1], "stored", "same bits", "2.2 of it")
end

function program.elementwise()
  local m, p = measure("elementwise", 4, {elementwise = 3})
  if not m then return end
  local peer = p.elementwise or {}
  local right = apart(m, 5, p.elementwise, 4, 1)
  within("chain of 10^7", m[1], math.max(m[3], m[4]), m[3] > m[4] and "memory floor" or "arithmetic floor", right, "1.3 of it")
  against("chain of 10^7", m[1], peer[1], "PyTorch", right)
  against("chain of 10^7", m[1], peer[3], "JAX", right)
  against("exp of 10^7", m[2], peer[2], "PyTorch", "agrees with libm", "1.4")
end

local function net(name, what, against_torch, gradient, tangent, product)
  local m, p = measure(name, 4, {[name] = 2})
  if not m then return end
  local peer = p[name] or {}
  local right = apart(m, 5, p[name], 3, 2)
  against(what .. ", value and gradient", m[1], peer[1], "PyTorch", right, against_torch)
  against(what .. ", value and gradient", m[1], peer[2], "JAX", right)
  within(what .. ", value and gradient", m[1], m[2], "forward", "", gradient)
  within(what .. ", jvp", m[3], m[2], "forward", "tangent is g'v", tangent)
  within(what .. ", hvp", m[4], m[2], "forward", "agrees with differences", product)
end
function program.mlp20() net("mlp20", "network 3 x 20", "2", "2.2 of it", "2 of it", "4.5 of it") end
function program.mlp256() net("mlp256", "network 3 x 256", "", "3 of it", "3 of it", "8 of it") end

function program.network()
  local m, p = measure("network", 1, {network = 2})
  if not m then return end
  local peer = p.network or {}
  local right = apart(m, 2, p.network, 3, 2)
  against("pl.nn.mlp 2-20-20-20-1, 10^4 points, value and gradient", m[1], peer[1], "PyTorch", right, "1")
  against("pl.nn.mlp 2-20-20-20-1, 10^4 points, value and gradient", m[1], peer[2], "JAX", right)
end

function program.pinn()
  local m, p = measure("pinn", 1, {pinn = 2})
  if not m then return end
  local peer = p.pinn or {}
  local right = apart(m, 2, p.pinn, 3, 2)
  against("Laplacian of a network, value and gradient", m[1], peer[1], "PyTorch", right, "4")
  against("Laplacian of a network, value and gradient", m[1], peer[2], "JAX", right)
end

function program.trace1000()
  local m = measure("trace1000", 2, {})
  if m then row("first call of 1,000 ops: trace, optimize, run", ms(m[1]), "", "", ("later ones take %s"):format(ms(m[2])), "5 ms") end
end

-- Sparse matrices: rows that sparse.lua and sparse.py have (another file of rows joins by a call of `beside_scipy`), with one thread and
-- two; the least of all rounds, taken in turn. The peer is at its best, whatever threads it uses.
local function beside_scipy(file)
  local function collect(command, into, order)
    local _, text = run(command)
    for name, time, value, target in (text .. "\n"):gmatch("(%S+) (%S+) (%S+) ?(%S*)\n") do
      if tonumber(time) and tonumber(value) then
        local old = into[name]
        if not old and order then order[#order + 1] = name end
        into[name] = {math.min(old and old[1] or math.huge, tonumber(time)), tonumber(value), target}
      end
    end
  end
  local mine, theirs, order = {{}, {}}, {}, {}
  for _ = 1, quick and 1 or 3 do
    for threads = 1, 2 do collect(("%sbench/%s.lua %d"):format(ours, file, threads), mine[threads], threads == 1 and order) end
    if has_peers then collect(("%s bench/%s.py"):format(python, file), theirs) end
  end
  for _, name in ipairs(order) do
    for threads = 1, 2 do
      local m, t = mine[threads][name], theirs[name]
      if m then
        against(("%s, %d thread%s"):format(name, threads, threads == 1 and "" or "s"), m[1], t and t[1], "SciPy",
          t and ("%.0e from the peer's"):format(math.abs(m[2]/t[2] - 1)) or "", m[3] ~= "-" and m[3] or "")
      end
    end
  end
end
function program.sparse() beside_scipy("sparse") end

-- Single ops: size and name -> least seconds and a number, of all rounds and (for the peer) one and two threads.
local scipy = {betainc = true, expint = true, tridiagonal_solve = true, cubic_spline = true, gaussian_filter = true, dct = true} -- what PyTorch lacks
function program.families()
  local function collect(command, into, order)
    local _, text = run(command)
    for n, name, time, value in text:gmatch("(%d+) (%S+) (%S+) (%S+)") do
      local key = n .. name
      local old = into[key]
      if not old and order then order[#order + 1] = {key, tonumber(n), name} end
      into[key] = {math.min(old and old[1] or math.huge, tonumber(time)), tonumber(value)}
    end
  end
  local mine, theirs, order = {}, {}, {}
  for _ = 1, quick and 1 or 3 do
    collect(ours .. "bench/families.lua", mine, order)
    for threads = 1, has_peers and 2 or 0 do collect(("%s bench/families.py %d"):format(python, threads), theirs) end
  end
  for _, item in ipairs(order) do
    local m, t = mine[item[1]], theirs[item[1]]
    local peer = scipy[item[3]] and "SciPy" or "PyTorch"
    against(("%s, 10^%d"):format(item[3], item[2] == 1000 and 3 or 6), m[1], t and t[1], peer,
      t and ("%.0e from the peer's"):format(math.abs(m[2]/t[2] - 1)) or "", "0.8")
  end
end

for _, name in ipairs(names) do
  if not alone or alone == name then program[name]() end
end

local _, version = run(ours .. "--version")
print(("%s; %s; %s cores; glibc %s; %s"):format((version:gsub("\n", "")), line("/proc/cpuinfo", "model name%s*:%s*(.*)"),
  (select(2, run "nproc"):gsub("%s", "")), (select(2, run "getconf GNU_LIBC_VERSION"):gsub("glibc ", ""):gsub("%s", "")),
  peer_version or has_peers and "peers as bench/peers installs them" or "PyTorch is missing: bench/peers installs it"))
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
