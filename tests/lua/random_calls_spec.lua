-- Random calls of the whole API with good and bad arguments: no crash, every failure a Lua error with a message, the session
-- usable at the end. PERILUNE_CALLS sets how many (seeded).
local pl = require "perilune"
local core = require "perilune.core"

local R = math.random

-- The program of a function of tensors like these.
local function program(f, ...)
  local trace, inputs = core.program.open{...}
  local result = {f(unpack(inputs))}
  local made = trace:close(result)
  trace:free()
  return made
end

-- Arguments of every kind; results join them.
local function arguments()
  local b = pl.buffer{3}
  return {
    1, 0, -1, 2.5, 0/0, 1/0, -1e300, 1e18, 3, "2:", ":", "x", "-1:1:0", true, false, {}, {1, 2}, {1, {2}}, {axis = 1}, {keep = true},
    {dtype = "f32"}, function() end, nil, pl.ones(3), pl.ones(3, 4), pl.zeros(0), pl.zeros(2, 0), pl.tensor(1), pl.tensor{true, false, true},
    pl.tensor({1, 2, 3}, {dtype = "i64"}), pl.ones{2, 2, dtype = "f32"}, b, pl.sparse.eye(3), pl.sparse.diags({1, 2}, {0, 1}, {3, 4}),
    pl.rng(1), pl.ix(pl.tensor{1, 2}, pl.tensor{1}), "f64", {shape = {2, 2}}, io.stdout, coroutine.create(function() end),
    function(p) return p end, function(p) return pl.sum(p*p) end, {a = 1, b = {pl.ones(2)}},
    program(function(x) return x*2 + 1, pl.sum(x) end, pl.ones(3)), program(function(x, y) return x*y end, pl.ones(3), pl.ones(3)),
    program(function(x) return pl.sum(x):lt(10) end, pl.ones(3)), {pl.ones(3)}, {pl.ones(3), pl.ones(3)}, {true, false},
    pl.compile(function(x) return pl.sum(x*x) end), pl.compile(function(t, k) return {t.a*k} end),
  }
end
local N = 51

local calls = {}
local function add(name, f) calls[#calls + 1] = {name, f} end
local settings = {printf = true, help = true, memory = true, default = true, with = true, set_printer = true, set_budget = true,
  threads = true, set_default_dtype = true, hooks = true, methods = true, plain = true, interrupt = true}
for _, from in ipairs{pl, core, core.sparse, pl.sparse, core.program} do
  for name, f in pairs(from) do
    if type(f) == "function" and not settings[name] then add(name, f) end
  end
end
for _, name in ipairs{"reshape", "sum", "at", "item", "to", "expand", "matmul", "gather", "solve", "gram", "factor", "dense", "normal", "integers",
  "uniform", "totable", "bytes", "detach", "promote", "size", "set", "add", "fill", "tensor", "gradient", "pushforward", "inline", "map", "text",
  "program", "source", "close", "free", "split", "truncated_normal", "lognormal", "exponential",
  "laplace", "cauchy", "gamma", "beta", "student_t", "bernoulli", "binomial", "poisson", "categorical", "multivariate_normal", "permutation", "choice"} do
  add(name, function(x, ...) return x[name](x, ...) end)
end
add("index", function(a, b) return a[b] end)
add("call", function(a, ...) return a(...) end)
add("newindex", function(a, b, c) a[b] = c end)
for name, d in pairs(pl.dist) do
  for what, f in pairs(d) do add(name .. "." .. what, f) end
end
for _, o in ipairs{"+", "-", "*", "/", "^", "%"} do add(o, assert(loadstring("local a, b = ... return a " .. o .. " b"))) end
add("T", function(a) return a.T end)
add("tostring", function(a) return tostring(a) end)
table.sort(calls, function(a, b) return a[1] < b[1] end)

describe("random calls", function()
  it("end in a result or a message", function()
    math.randomseed(7)
    local quiet = io.stderr
    rawset(io, "stderr", {write = function() end, flush = function() end}) -- notices
    local budget = core.memory().budget
    core.set_budget(500e6)
    local pool, succeeded, failed = arguments(), 0, 0
    local function one()
      local f, args, n = calls[R(#calls)], {}, R(0, 4)
      for k = 1, n do args[k] = pool[R(N)] end
      local ok, result = pcall(f[2], unpack(args, 1, n))
      if not ok then
        failed = failed + 1
        assert((type(result) == "string" and #result > 0) or type(result) == "table", f[1])
      else
        succeeded = succeeded + 1
        local fine, small = pcall(function() return core.is_tensor(result) and result.count < 1000 end)
        if fine and small and R() < 0.3 then pool[R(24, 43)] = result end
      end
    end
    for i = 1, tonumber(os.getenv "PERILUNE_CALLS") or 10000 do
      if i % 500 == 0 then
        pool = nil
        for _ = 1, 2 do collectgarbage() end -- of a recording that core.open left open, lest it ends while they are made
        pool = arguments()
      end
      if R() < 0.1 then -- inside a recording
        pcall(pl.grad(function(p) for _ = 1, 10 do one() end return pl.sum(p) end), pl.ones(3))
      else
        one()
      end
    end
    pool = nil
    for _ = 1, 2 do collectgarbage() end -- regions that core.open left open
    rawset(io, "stderr", quiet)
    core.set_budget(budget)
    assert.is_true(succeeded > 1000 and failed > 1000)
    assert.is_false(core.recording())
    assert.are.equal(3, pl.sum(pl.ones(3)):item())
  end)
end)
