-- Compiled functions on disk: compiled:save and pl.load_program.
local pl = require "perilune"

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end
local fails = require("tests.expect").fails
local function same(a, b) assert.is_true(pl.max(pl.abs(a - b)):item() == 0) end

describe("a compiled function on disk", function()
  local path
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  local a = pl.tensor{1, 2, 3}
  local f = pl.compile(function(p, n, mode)
    local y = pl.sin(p.x*n) + p.list[1] + a
    if mode == "double" then y = 2*y end
    return {loss = pl.sum(y), y = {y, p.x}}, pl.mean(y), mode
  end)
  local p = {x = pl.tensor{0.1, 0.2, 0.3}, list = {1.5}}

  it("takes and returns the same trees, and has the same derivatives", function()
    f:save(path, p, 2, "double")
    local g = pl.load_program(path)
    local r, m, word = f(p, 2, "double")
    local r2, m2, word2 = g(p, 2, "double")
    same(r.loss, r2.loss)
    same(r.y[1], r2.y[1])
    same(p.x, r2.y[2])
    same(m, m2)
    assert.are.equal("double", word)
    assert.are.equal(word, word2)
    local function loss(h) return function(q) return (h(q, 2, "double")).loss end end
    same(pl.grad(loss(f))(p).x, pl.grad(loss(g))(p).x)
    g:save(path, p, 2, "double")
    same(r.loss, (pl.load_program(path)(p, 2, "double")).loss)
  end)

  it("says which argument does not fit", function()
    f:save(path, p, 2, "double")
    local g = pl.load_program(path)
    fails("argument 3 must be double", g, p, 2, "single")
    fails("argument 1.x is f64 of shape {4}; the program was made for f64 of shape {3}", g, {x = pl.zeros(4), list = {1}}, 2, "double")
    fails("argument 1.list must be a table, not nil", g, {x = pl.zeros(3)}, 2, "double")
    fails("takes 3 arguments, not 1", g, p)
    fails("argument 3 is a function", f.save, f, path, p, 2, print)
    fails("cannot write", f.save, f, path .. "/no/such", p, 2, "double")
    fails("not a program", pl.load_program, arg and arg[0] or path)
    require("perilune.core").program.load(path) -- still whole
  end)

  it("keeps Newton's method, loops and derivatives", function()
    local h = pl.compile(function(k)
      local u = pl.newton(function(u) return u + 0.3*pl.tanh(pl.flip(u)) - k^2 end, pl.zeros(4))
      local s = pl.scan(function(s) return s*0.9 + u end, u, 5)
      return pl.sum((pl.while_loop(function(w) return pl.lt(pl.sum(w), 100) end, function(w) return 2*w end, s)))
    end)
    local k = pl.tensor{0.5, 1, 1.5, 2}
    h:save(path, k)
    local h2 = pl.load_program(path)
    same(h(k), h2(k))
    same(pl.grad(h)(k), pl.grad(h2)(k))
    local g = pl.compile(pl.grad(h))
    g:save(path, k)
    same(pl.grad(h)(k), pl.load_program(path)(k))
  end)

  it("names ops of C files by their content", function()
    local source = os.tmpname() .. ".c"
    write(source, [[
#include "perilune_op.h"
PL_OP(cubed_here, "x^3", 1)
PL_FORWARD { return x[0]*x[0]*x[0]; }
PL_PARTIALS { d[0] = 3*x[0]*x[0]; }
]])
    local cubed = pl.load_op(source)
    local x = pl.tensor{1, 2}
    local h = pl.compile(function(v) return pl.sum(cubed(v)) end)
    pl.compile(pl.grad(h)):save(path, x)
    same(pl.load_program(path)(x), 3*x^2)
    -- another process has not loaded the file yet
    local script = os.tmpname()
    write(script, ([[
local pl = require "perilune"
local ok, message = pcall(pl.load_program, %q)
assert(not ok and message:find("needs the op 'cubed_here' of a C file", 1, true), message)
pl.load_op %q
assert(pl.load_program(%q)(pl.tensor{1, 2}):item(2) == 12)
]]):format(path, source, path))
    assert.are.equal(0, os.execute(("%s %s"):format(os.getenv "PERILUNE", script)))
    os.remove(source)
    os.remove(script)
  end)

  it("refuses a text that it did not write", function()
    local body, inputs, n = f:program(p, 2, "double")
    local captured = {}
    for k = n + 1, #inputs do captured[k - n] = inputs[k] end
    for _, text in ipairs{"", "x", "{", "{s9:arguments", "{s9:arguments{s1:nn1;n1;{s4:leafn9;}}s7:results{s1:nn0;}}", ("{n1;"):rep(1000), "n1;", "-"} do
      body:save(path, captured, text)
      fails("not one that a compiled function's save has written", pl.load_program, path)
    end
  end)
end)

describe("trace_nan", function()
  local function f(x)
    local y = x*2 - 3
    return pl.sum(pl.log(y)*x)
  end
  it("names the op and its line, in the function itself, in programs and in the reverse sweep", function()
    local here = debug.getinfo(1, "S").short_src
    local line = ("%s:%d"):format(here, debug.getinfo(f, "S").linedefined + 2)
    local x = pl.tensor{1, 2, 3}
    fails("log at " .. line .. " first gave a NaN or infinity: argument 1 {3} from -1 to 3", pl.trace_nan(f), x)
    fails("log at " .. line .. " first gave", pl.trace_nan(pl.compile(f)), x)
    fails("log at " .. line .. " first gave", pl.minimize, f, pl.ones(1), {compile = true})
    fails("sqrt at ", pl.trace_nan(function(u) return (pl.scan(function(s) return pl.sqrt(s - 1) end, u, 10)) end), pl.tensor{3, 2})
    fails("div at ", pl.trace_nan(pl.grad(pl.compile(function(u) return pl.sum(pl.sqrt(u)) end))), pl.tensor{0, 1})
    fails("argument 1.a is not finite itself", pl.trace_nan(function(q) return pl.sum(q.a) end), {a = pl.tensor{1, 0/0}})
  end)
  it("returns what is finite", function()
    assert.are.near(2*math.log(1) + 3*math.log(3), pl.trace_nan(f)(pl.tensor{2, 3}):item(), 1e-14)
    assert.are.near(2*math.log(1) + 3*math.log(3), f(pl.tensor{2, 3}):item(), 1e-14)
  end)
end)
