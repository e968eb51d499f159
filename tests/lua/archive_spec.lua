-- Programs on disk: the entry points of core.program.
local pl = require "perilune"
local program = require("perilune.core").program

local function traced()
  local a = pl.tensor{1, 2, 3}
  local t, x = program.open({pl.zeros(3)}, 1)
  local body, captured = t:close{pl.sum(pl.tanh(x[1]*a*0.5))}
  local keep = {}
  for k, v in ipairs(captured) do keep[k] = v:detach() end
  t:free()
  return body, keep
end

describe("a program on disk", function()
  local path
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("is the same program when it is loaded", function()
    local body, captured = traced()
    body:save(path, captured, "a\0text")
    local again, values, text = program.load(path)
    assert.is_true(again == body)
    assert.are.equal("a\0text", text)
    assert.are.equal(2, #values)
    local y = program.call(again, {pl.tensor{1, 2, 3}, unpack(values)})[1]
    assert.are.near(math.tanh(0.5) + math.tanh(2) + math.tanh(4.5), y:item(), 1e-14)
  end)

  it("says what is wrong", function()
    local body, captured = traced()
    assert.has_error(function() program.load(path .. "/none") end)
    assert.has_error(function() program.load(3) end)
    assert.has_error(function() program.load "a\0b" end)
    assert.has_error(function() body:save("", captured) end)
    assert.has_error(function() body:save(path, {1}) end)
    local ok, message = pcall(body.save, body, path, {captured[2], captured[1]}, "")
    assert.is_false(ok)
    assert.truthy(message:find("captured value 1 is f64", 1, true))
    ok, message = pcall(program.load, path)
    assert.is_false(ok)
    assert.truthy(message:find("is not a program that can be loaded", 1, true))
  end)
end)
