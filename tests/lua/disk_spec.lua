-- scan with its trajectory on disk: the gradient of one that stores all states, bit for bit; errors; nothing left behind.
local ffi = require "ffi"
local pl = require "perilune"

ffi.cdef [[
typedef struct { unsigned long soft, hard; } perilune_test_limit;
int getrlimit(int what, perilune_test_limit *limit);
int setrlimit(int what, const perilune_test_limit *limit);
]]
local FILE_SIZE = 1 -- RLIMIT_FSIZE

local function same(a, b) assert.are.equal(a:bytes(), b:bytes()) end
local fails = require("tests.expect").fails

local folder = os.tmpname()
os.remove(folder)
assert(os.execute(("mkdir '%s'"):format(folder)) == 0)
local function files(command)
  local list = io.popen(("%s 2>/dev/null | wc -l"):format(command or ("ls -A '%s'"):format(folder)))
  local n = tonumber(list:read "*l")
  list:close()
  return n
end
local pid = io.open("/proc/self/stat"):read "*n"
local function open_files() return files(("ls -l /proc/%d/fd | grep '%s'"):format(pid, folder)) end

describe("scan on disk", function()
  local n, steps = 50, 23
  local rng = pl.rng(1)
  local P = {a = rng:normal(n), k = 0.7, x = rng:normal(steps, 3)}
  local start = {u = rng:normal(n), i = pl.tensor({0}, {dtype = "i64"}), w = rng:normal(5, 1)} -- 400 + 8 + 40 bytes
  local function loss(p, options)
    local r = pl.rng(3)
    local s, y = pl.scan(function(s, x)
      local u = pl.tanh(s.u*p.k + p.a*pl.sum(x)) + 0.1*r:normal(n)
      return {u = u, i = s.i + 1, w = pl.sin(s.w + pl.mean(u))}, pl.sum(u^2)*x
    end, {u = start.u*p.k, i = start.i, w = start.w}, p.x, options)
    return pl.sum(s.u^2) + pl.sum(y^2) + pl.sum(s.w)
  end
  local function gradient(options, compiled)
    local f = function(p) return loss(p, options) end
    return pl.value_and_grad(compiled and pl.compile(f) or f)(P)
  end
  local value, want = gradient()

  it("gives the gradient of storing all, whatever the memory", function()
    for _, compiled in ipairs{false, true} do
      for _, memory in ipairs{1, 448, 900, "1.4KB", 448*7, 448*11, 448*12, 448*22, 448*23, "1MB"} do
        local v, g = gradient({memory = memory, disk = folder}, compiled)
        same(value, v)
        assert.are.equal(want.k, g.k)
        same(want.a, g.a)
        same(want.x, g.x)
        assert.are.equal(0, files())
      end
    end
    local _, g = gradient{checkpoints = 4, disk = folder .. "/states-"} -- the beginning of a name
    same(want.a, g.a)
    assert.are.equal(0, files())
  end)

  it("writes only for a gradient", function()
    same(value, loss(P, {memory = 900, disk = "/no/such/folder"}))
    fails("cannot make a file for a loop's states in '/no/such/folder'", gradient, {memory = 900, disk = "/no/such/folder"})
    fails("No such file or directory", gradient, {memory = 900, disk = "/no/such/folder"}, true)
    gradient{memory = "1MB", disk = "/no/such/folder"} -- all of it fits
    fails("cannot make a file", gradient, {memory = 900, disk = "/proc"})
  end)

  it("works inside of loops, maps and compiled functions", function()
    local function outer(options)
      return function(p)
        local s = pl.scan(function(s)
          local t = pl.scan(function(t) return pl.sin(t*p.k) + s end, s, 9, options)
          return pl.tanh(t)
        end, p.a, 6, options)
        return pl.sum(s^2)
      end
    end
    local Q = {a = P.a, k = 1.1}
    local w = pl.grad(outer())(Q)
    for _, options in ipairs{{memory = 800, disk = folder}, {checkpoints = 4, disk = folder}} do
      for _, f in ipairs{outer(options), pl.compile(outer(options))} do
        local g = pl.grad(f)(Q)
        same(w.a, g.a)
        assert.are.equal(w.k, g.k)
      end
    end
    -- gradients taken inside of a program, and for each entry of a map
    local function inside(options)
      return function(a) return pl.sum(pl.grad(outer(options))({a = a, k = 1.1}).a*a) end
    end
    same(inside()(P.a), pl.compile(inside{memory = 800, disk = folder})(P.a))
    local xs = pl.rng(2):normal(3, 8)
    same(pl.map(inside(), xs), pl.map(inside{memory = 128, disk = folder}, xs))
    local hv, hw = pl.hvp(outer{memory = 800, disk = folder})(Q, Q), pl.hvp(outer())(Q, Q)
    same(hw.a, hv.a)
    collectgarbage()
    assert.are.equal(0, files())
    assert.are.equal(0, open_files())
  end)

  it("says that the disk is full, and goes on afterwards", function()
    local limit, small = ffi.new "perilune_test_limit", ffi.new "perilune_test_limit"
    assert.are.equal(0, ffi.C.getrlimit(FILE_SIZE, limit))
    small.soft, small.hard = 3000, limit.hard -- in the middle of the seventh state
    for _, compiled in ipairs{false, true} do
      assert.are.equal(0, ffi.C.setrlimit(FILE_SIZE, small))
      local ok, message = pcall(gradient, {memory = 900, disk = folder}, compiled)
      assert.are.equal(0, ffi.C.setrlimit(FILE_SIZE, limit))
      assert.is_false(ok)
      assert.is_truthy(message:find("cannot write a loop's states in '" .. folder .. "': File too large", 1, true), message)
      local _, g = gradient({memory = 900, disk = folder}, compiled)
      same(want.a, g.a)
    end
    assert.are.equal(0, files())
    assert.are.equal(0, open_files())
  end)

  it("plans: states on disk and in memory, and what is computed again", function()
    local function plan(options) return pl.scan:plan(function(s) return s*2 end, pl.ones(1000), 100, options) end
    local p = plan{memory = "80KB", disk = folder} -- 10 states of 8,000 bytes
    assert.are.same({10, 10*8000, 12*8000, 1.9}, {p.checkpoints, p.disk_bytes, p.peak_bytes, p.recomputation})
    assert.are.equal("100 steps, state of 0.008 MB: every 10 on disk (0.08 MB), peak 0.096 MB, 1.90 forward steps for each", tostring(p))
    p = plan{memory = "1MB", disk = folder}
    assert.are.same({0, 0, 1}, {p.checkpoints, p.disk_bytes, p.recomputation})
    assert.are.equal(0, plan().disk_bytes)
  end)

  it("checks its options", function()
    fails("how much stays in memory", gradient, {disk = folder})
    fails("not number", gradient, {disk = 3, memory = 100})
    fails('not ""', gradient, {disk = "", memory = 100})
    fails("disk is the name of a folder", gradient, {disk = "a\0b", memory = 100})
  end)

  teardown(function() os.remove(folder) end)
end)
