-- The programs of programs.py: `perilune bench/programs.lua ROW` prints one line of numbers, median seconds first and then what the
-- peer's numbers are compared with. Memory is in bytes.
--   scalar40     value and gradient; value, d/da, d/db, d/dx
--   heat         value and gradient, the same with 100 checkpoints, peak memory, memory of the trajectory; loss, sum of the gradient,
--                gradient[10, 20] (from 0)
--   elementwise  chain, exp alone, floor of the memory, floor of the arithmetic; y[12345] (from 0)
--   mlp20, mlp256  value and gradient, value alone, jvp, hvp; loss, sum of squares of the gradient
--   network      pl.nn.mlp 2-20-20-20-1 on 10^4 points: value and gradient; loss, sum of squares of the gradient
--   pinn         value and gradient; loss, sum of squares of the gradient
--   trace1000    first call of a compiled function of 1,000 ops, the second call; the value
local pl = require "perilune"
local ffi = require "ffi"
local now = dofile "bench/clock.lua"

local function median(t) table.sort(t); return t[math.ceil(#t/2)] end

-- As in programs.py: the median over at least 20 calls and 0.5 s, or 5 calls of more than 0.5 s, after a warm-up; calls of less than
-- 20 us are timed by the hundred. The functions take turns: seconds(f, g) returns two times. What a call returns is freed before the
-- next one, outside the time where it is large.
local function seconds(...)
  local list = {...}
  local times, batch, least, large = {}, {}, 20, false
  for k, f in ipairs(list) do
    f()
    local before = pl.memory().used
    local t = now()
    local kept = f()
    local once = now() - t
    if once > 0.5 then least = 5 end
    large = large or kept and pl.memory().used - before > 1e7
    times[k], batch[k] = {}, once < 2e-5 and 100 or 1
  end
  local finish = now() + 0.5*#list
  repeat
    for k, f in ipairs(list) do
      if large then collectgarbage() end
      local t = now()
      for _ = 1, batch[k] do f() end
      times[k][#times[k] + 1] = (now() - t)/batch[k]
    end
  until #times[1] >= least and now() > finish
  for k = 1, #list do times[k] = median(times[k]) end
  return unpack(times)
end

local function show(...)
  local words = {...}
  for k, x in ipairs(words) do words[k] = ("%.17g"):format(pl.is_tensor(x) and x:item() or x) end
  print(table.concat(words, " "))
end

local rows = {}

function rows.scalar40()
  local both = pl.value_and_grad(pl.compile(function(p)
    local y = p.x
    for _ = 1, 10 do
      y = y*p.a
      y = y + p.b
      y = pl.tanh(y)
      y = y*p.x
    end
    return y
  end))
  local p = {a = 0.9, b = 0.05, x = 0.7}
  local t = seconds(function() both(p) end)
  local y, g = both(p)
  show(t, y, g.a, g.b, g.x)
end

function rows.heat()
  local x = pl.linspace(0, 1, 64)
  local X, Y = pl.meshgrid(x, x)
  local u0 = pl.exp(-100*((X - 0.5)^2 + (Y - 0.5)^2))
  local function program(options)
    return pl.value_and_grad(pl.compile(function(k)
      local u = pl.scan(function(u)
        local lap = u("3:", "2:-2") + u(":-3", "2:-2") + u("2:-2", "3:") + u("2:-2", ":-3") - 4*u("2:-2", "2:-2")
        return u + pl.pad(k*lap, 1)
      end, u0, 1000, options)
      return pl.mean(u^2)
    end))
  end
  local k = pl.full({62, 62}, 0.2)
  local all, few = program(), program{checkpoints = 100}
  local loss, g = all(k)
  local peak = pl.memory().peak                         -- before anything else has run
  local loss2, g2 = few(k)
  assert(loss2:item() == loss:item() and pl.norm(g2 - g, "max"):item() == 0, "checkpoints change the gradient")
  local stored, recomputed = seconds(function() all(k) end, function() few(k) end)
  show(stored, recomputed, peak, 1000*64*64*8, loss, pl.sum(g), g:item(11, 21))
end

function rows.elementwise()
  local n, a, b = 1e7, 1.3, 0.2
  local x = pl.linspace(-2, 2, n)
  local chain = pl.compile(function(v) return pl.tanh(a*v + b)*pl.exp(-v*v) + pl.sqrt(pl.abs(v))/(1 + v*v) end)
  local exp = pl.compile(function(v) return pl.exp(v) end)
  assert(math.abs(exp(x):item(12346)/math.exp(x:item(12346)) - 1) < 1e-15, "exp is wrong")
  local from, to = ffi.new("double[?]", n), ffi.new("double[?]", n)
  ffi.fill(from, 8*n, 1)
  local y, e, negative, copy = seconds(function() return chain(x) end, function() return exp(x) end, function() return -x end,
    function() ffi.copy(to, from, 8*n) end)
  -- Arithmetic: the chain on two arrays that fit in L1 with their results, so that the call itself cancels; one thread, then shared out.
  local short, long = pl.linspace(-2, 2, 256), pl.linspace(-2, 2, 1280)
  local t1, t2
  pl.with({threads = 1}, function() t1, t2 = seconds(function() return chain(short) end, function() return chain(long) end) end)
  show(y, e, math.min(negative, copy), (t2 - t1)/1024*n/pl.default().threads, chain(x):item(12346))
end

local function net(w, x)
  for l = 1, #w - 2, 2 do x = pl.tanh(x:matmul(w[l]) + w[l + 1]) end
  return (x:matmul(w[#w - 1]) + w[#w])(":", 1)
end

local function weights(width, points)
  local w, sizes = {}, {2, width, width, width, 1}
  for l = 0, 3 do
    local n, m = sizes[l + 1], sizes[l + 2]
    w[#w + 1] = 0.5*pl.sin(1 + pl.arange(0, n*m - 1) + 7*l):reshape(n, m)/math.sqrt(n)
    w[#w + 1] = 0.1*pl.cos(pl.arange(0, m - 1) + l)
  end
  local i = pl.arange(0, (points or 1000) - 1)
  return w, pl.stack({pl.sin(0.1*i), pl.cos(0.2*i)}, {axis = 2})
end

local function squares(g)
  local sum = 0
  for _, leaf in ipairs(g) do sum = sum + pl.sum(leaf^2):item() end
  return sum
end

local function mlp(width)
  local w, X = weights(width)
  local t = pl.sin(X(":", 1))*pl.cos(X(":", 2))
  local loss = pl.compile(function(p) return pl.mean((net(p, X) - t)^2) end)
  local both, hvp, v = pl.value_and_grad(loss), pl.hvp(loss), {}
  for k, leaf in ipairs(w) do v[k] = pl.rng(k):normal(leaf.shape) end
  local gradient, forward, tangent, product = seconds(function() both(w) end, function() loss(w) end, function() pl.jvp(loss, w, v) end,
    function() hvp(w, v) end)
  local value, g = both(w)
  local _, slope = pl.jvp(loss, w, v)
  assert(math.abs(slope:item()/pl.dot(g, v):item() - 1) < 1e-9, "tangent and gradient differ")
  local function moved(h)
    local p = {}
    for k, leaf in ipairs(w) do p[k] = leaf + h*v[k] end
    return pl.dot(pl.grad(loss)(p), v):item()
  end
  local curvature = pl.dot(hvp(w, v), v):item()
  assert(math.abs((moved(1e-5) - moved(-1e-5))/(2e-5*curvature) - 1) < 1e-5, "the Hessian product is wrong")
  show(gradient, forward, tangent, product, value, squares(g))
end
function rows.mlp20() mlp(20) end
function rows.mlp256() mlp(256) end

function rows.network()
  local w, X = weights(20, 10000)
  local x, y = X(":", 1), X(":", 2)
  local t = pl.sin(x)*pl.cos(y)
  local k = pl.nn.mlp{2, 20, 20, 20, 1, activation = "tanh"}
  for l = 1, 4 do k[l].weight, k[l].bias = w[2*l - 1], w[2*l] end
  local both = pl.value_and_grad(pl.compile(function(p) return pl.mean((p(x, y) - t)^2) end))
  local gradient = seconds(function() both(k) end)
  local value, g = both(k)
  local list = {}
  for l, leaf in ipairs((pl.tree.leaves(g))) do list[l] = leaf.value end
  show(gradient, value, squares(list))
end

function rows.pinn()
  local w, X = weights(20)
  local along = {pl.tensor{1, 0}:broadcast_to(1000, 2), pl.tensor{0, 1}:broadcast_to(1000, 2)}
  local both = pl.value_and_grad(pl.compile(function(p)
    local function second(v)
      local function d(f) return function(x) return (select(2, pl.jvp(f, x, v))) end end
      return d(d(function(x) return net(p, x) end))(X)
    end
    return pl.mean((second(along[1]) + second(along[2]))^2)
  end))
  local t = seconds(function() both(w) end)
  local value, g = both(w)
  show(t, value, squares(g))
end

-- Equal programs are found again, so that each function here is another sequence of ops.
function rows.trace1000()
  local x = pl.linspace(0.1, 0.8, 8)
  local first, again, value = {}, {}, nil
  for round = 1, 21 do
    local kinds = pl.rng(round):integers(1, 8, 1000):totable()
    local f = pl.compile(function(v)
      local y = v
      for k = 1, 1000 do
        local kind = kinds[k]
        if kind == 1 then y = y*v
        elseif kind == 2 then y = y + v
        elseif kind == 3 then y = pl.tanh(y)
        elseif kind == 4 then y = y - 0.5*v
        elseif kind == 5 then y = pl.sin(y)
        elseif kind == 6 then y = pl.cos(y)
        elseif kind == 7 then y = pl.sqrt(pl.abs(y))
        else y = y*1.1 end
      end
      return y
    end)
    collectgarbage()
    local t = now()
    value = f(x)
    first[round] = now() - t
    t = now()
    f(x)
    again[round] = now() - t
  end
  show(median(first), median(again), value:item(1))
end

if not rows[arg[1]] then error(("there is no row '%s'; programs.lua lists them"):format(tostring(arg[1])), 0) end
rows[arg[1]]()
