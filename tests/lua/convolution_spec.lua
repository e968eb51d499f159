-- Convolutions, pooling and Gaussian filters against tests/data/convolution.txt (PyTorch, SciPy; convolution.py makes it), closed
-- forms and each other.
local pl = require "perilune"

local SCALES = {0.6180339887498949, 0.41421356237309515, 0.7320508075688772}

local function hashed(shape, scale)
  local n = 1
  for _, size in ipairs(shape) do n = n*size end
  if n == 0 then return pl.zeros(shape) end
  local k = pl.arange(1, n)*scale
  return (k - pl.floor(k) - 0.5):reshape(shape)
end

local function numbers(text)
  local list = {}
  for word in text:gmatch "[^%s,]+" do list[#list + 1] = tonumber(word) end
  return list
end

local function near(got, want, tolerance, what)
  assert.are.equal(#want, got.count, what)
  if #want == 0 then return end
  local off = pl.max(pl.abs(got:reshape(#want):to("f64") - pl.tensor(want))):item()
  assert.is_true(off <= tolerance*(1 + pl.max(pl.abs(pl.tensor(want))):item()), ("%s: off by %.3g"):format(what, off))
end

local function cases()
  return coroutine.wrap(function()
    for line in io.lines "tests/data/convolution.txt" do
      local field = {}
      for text in (line .. ";"):gmatch "%s*(.-);" do field[#field + 1] = text end
      local shapes, x = {}, {}
      for text in (field[2] .. "|"):gmatch "(.-)|" do shapes[#shapes + 1] = numbers(text) end
      for k, shape in ipairs(shapes) do x[k] = hashed(shape, SCALES[k]) end
      coroutine.yield(field[1], x, assert(loadstring("return " .. field[3]))(), field, field[1] .. " " .. field[2] .. " " .. field[3])
    end
  end)
end

local function apply(op, x, options)
  if op == "gaussian_filter" then
    local rest = {}
    for key, value in pairs(options) do if key ~= "sigma" then rest[key] = value end end
    return pl.gaussian_filter(x[1], options.sigma, rest)
  end
  if x[2] then return pl[op](x[1], x[2], next(options) and options or nil) end
  return pl[op](x[1], options)
end

describe("convolutions, pooling and filters", function()
  it("have PyTorch's and SciPy's values in f64 and f32", function()
    local count = 0
    for op, x, options, field, what in cases() do
      near(apply(op, x, options), numbers(field[4]), 1e-14, what)
      local single = {}
      for k, v in ipairs(x) do single[k] = v:to("f32") end
      local y = apply(op, single, options)
      assert.are.equal("f32", y.dtype, what)
      near(y, numbers(field[4]), 1e-6, what)
      count = count + 1
    end
    assert.are.equal(120, count)
  end)

  it("have PyTorch's gradients", function()
    for op, x, options, field, what in cases() do
      if field[5] then
        local y = apply(op, x, options)
        local c = hashed(y.shape, SCALES[3])
        local g = pl.grad(function(p) return pl.sum(c*apply(op, p, options)) end)(x)
        for k, v in ipairs(g) do near(v, numbers(field[4 + k]), 1e-13, what .. " gradient " .. k) end
      end
    end
  end)

  it("are differentiated twice, compiled and mapped", function()
    local x, w = hashed({2, 2, 5, 6}, SCALES[1]), hashed({4, 1, 3, 2}, SCALES[2])
    local function f(p)
      local y = pl.conv2d(p.x, p.w, {stride = {1, 2}, padding = 1, groups = 2})
      return pl.sum(pl.tanh(pl.conv_transpose2d(y, p.w, {groups = 2}))*pl.sum(y*y))
    end
    pl.check_grad(f, {x = x, w = w})
    local v = {x = hashed(x.shape, SCALES[3]), w = hashed(w.shape, SCALES[3])}
    local h = pl.hvp(f)({x = x, w = w}, v)
    local g = pl.grad(function(p) return pl.dot(pl.grad(f)(p), v) end)({x = x, w = w}) -- reverse over reverse
    for _, key in ipairs{"x", "w"} do
      assert.is_true(pl.max(pl.abs(h[key] - g[key])):item() < 1e-11*(1 + pl.max(pl.abs(h[key])):item()))
    end
    local a, b = pl.compile(pl.grad(f))({x = x, w = w}), pl.grad(f)({x = x, w = w})
    assert.are.same(b.w:totable(), a.w:totable())
    local images = hashed({3, 2, 2, 5, 6}, SCALES[1])
    local many = pl.map(function(p) return pl.conv2d(p, w, {groups = 2}) end, images)
    for k = 1, 3 do assert.are.same(pl.conv2d(images[k], w, {groups = 2}):totable(), many[k]:totable()) end
    local signal = hashed({40}, SCALES[1])
    pl.check_grad(function(p) return pl.sum(pl.gaussian_filter(p, 2, "nearest")^3) end, signal)
    pl.check_grad(function(p) return pl.sum(pl.max_pool1d(p, 4, 2)^3) end, signal)
    pl.check_grad(function(p) return pl.sum(pl.convolve(p[1], p[2], "same")^2) end, {signal, hashed({7}, SCALES[2])})
  end)

  it("agree with shifted sums where images are cut into boxes, whatever the threads", function()
    local function check(x, w, options, what)
      local window, dilation = w.shape, options.dilation or 1
      local m, n = x.shape[3] - dilation*(window[3] - 1), x.shape[4] - dilation*(window[4] - 1)
      local y = pl.conv2d(x, w, options)
      local function weights(p) return pl.sum(pl.conv2d(x, p, options)^2) end
      local function images(p) return pl.sum(pl.conv2d(p, w, options)^2) end
      local gw, gx = pl.grad(weights)(w), pl.grad(images)(x)
      local want = 0
      for i = 1, window[3] do
        for j = 1, window[4] do
          local part = x(":", ":", {1 + dilation*(i - 1), dilation*(i - 1) + m}, {1 + dilation*(j - 1), dilation*(j - 1) + n})
          want = want + pl.einsum("oc,bchw->bohw", w(":", ":", i, j), part)
          local g = pl.einsum("bohw,bchw->oc", 2*y, part)
          assert.is_true(pl.max(pl.abs(gw(":", ":", i, j) - g)):item() <= 1e-12*(1 + pl.max(pl.abs(g)):item()), what .. ": weights")
        end
      end
      assert.is_true(pl.max(pl.abs(y - want)):item() <= 1e-13*(1 + pl.max(pl.abs(want)):item()), what)
      -- y is linear in x and f quadratic: <x, grad f> = 2 f
      local f = images(x):item()
      assert.is_true(math.abs(pl.sum(x*gx):item() - 2*f) <= 1e-12*f, what .. ": images")
      pl.with({threads = 1}, function()
        assert.are.equal(0, pl.max(pl.abs(pl.conv2d(x, w, options) - y)):item(), what .. ": threads")
        assert.are.equal(0, pl.max(pl.abs(pl.grad(weights)(w) - gw)):item(), what .. ": threads, weights")
        assert.are.equal(0, pl.max(pl.abs(pl.grad(images)(x) - gx)):item(), what .. ": threads, images")
      end)
    end
    check(hashed({1, 1, 300, 301}, SCALES[1]), hashed({1, 1, 3, 4}, SCALES[2]), {}, "rows of boxes")
    check(hashed({1, 2, 1, 30000}, SCALES[1]), hashed({3, 2, 1, 5}, SCALES[2]), {}, "boxes in rows")
    check(hashed({1, 12, 70, 65}, SCALES[1]), hashed({20, 12, 3, 3}, SCALES[2]), {dilation = 16}, "wide margins")
    check(hashed({3, 5, 9, 9}, SCALES[1]), hashed({67, 5, 3, 3}, SCALES[2]), {}, "many channels")
  end)

  it("place impulses, keep constants and leave out what no window covers", function()
    local x = pl.zeros(1, 1, 5, 5):at(1, 1, 2, 4):set(1)
    local w = pl.arange(1, 9):reshape(1, 1, 3, 3)
    assert.are.same({{9, 8, 7}, {6, 5, 4}, {3, 2, 1}}, pl.conv2d(x, w, {padding = 1})(1, 1, {1, 3}, {3, 5}):totable())
    assert.are.same({3, 10, 8}, pl.convolve(pl.tensor{1, 2}, pl.tensor{3, 4}):totable())
    assert.are.same({4, 11, 6}, pl.correlate(pl.tensor{1, 2}, pl.tensor{3, 4}):totable())
    local one = pl.ones(20, 30)
    for _, mode in ipairs{"reflect", "nearest", "wrap"} do
      assert.is_true(pl.max(pl.abs(pl.gaussian_filter(one, 3, mode) - 1)):item() < 1e-15)
    end
    assert.are.same(one:totable(), pl.gaussian_filter(one, 0):totable())
    assert.are.same(pl.gaussian_filter(one, {0, 2}, "constant"):totable(), pl.gaussian_filter(one, 2, {axis = 2, mode = "constant"}):totable())
    -- a NaN that no window covers reaches neither values nor gradients; one that some cover, only theirs
    local nan = pl.ones(1, 1, 1, 8):at(1, 1, 1, 8):set(0/0)
    local g = pl.grad(function(p) return pl.sum(pl.conv2d(nan, p, {stride = 3})) end)(pl.ones(1, 1, 1, 3))
    assert.are.same({{{{2, 2, 2}}}}, g:totable())
    g = pl.grad(function(p) return pl.sum(pl.conv2d(nan, p)) end)(pl.ones(1, 1, 1, 3))
    assert.are.same({6, 6}, g(1, 1, 1, {1, 2}):totable())
  end)

  it("max_pool takes the first of the largest in each window, worked out one by one", function()
    local n = 600
    local x = pl.floor(hashed({2, n}, SCALES[1])*9):totable() -- with many ties
    for row, at in ipairs{17, 580} do x[row][at] = 0/0 end
    local function better(v, b) return v > b or (v ~= v and b == b) end
    for _, how in ipairs{{3, 1, 1}, {5, 2, 2}, {4, 5, 0}, {300, 1, 150}, {2, 2, 0}} do
      local window, stride, padding = how[1], how[2], how[3]
      for _, dtype in ipairs{"f64", "f32"} do
        local images = pl.tensor(x, {dtype = dtype})
        local y = pl.max_pool1d(images, window, stride, padding)
        local g = pl.grad(function(v) return pl.sum(pl.max_pool1d(v, window, stride, padding)) end)(images):totable()
        local got, count = y:totable(), math.floor((n + 2*padding - window)/stride) + 1
        for row = 1, 2 do
          local taken = {}
          for j = 1, count do
            local first, best = (j - 1)*stride - padding + 1
            for k = math.max(first, 1), math.min(first + window - 1, n) do
              if not best or better(x[row][k], x[row][best]) then best = k end
            end
            taken[best] = (taken[best] or 0) + 1
            assert.are.equal(tostring(x[row][best]):gsub("-nan", "nan"), tostring(got[row][j]):gsub("-nan", "nan"))
          end
          for k = 1, n do assert.are.equal(taken[k] or 0, g[row][k]) end
        end
      end
    end
  end)

  it("max_pool takes NaN for the largest, and the first of equals has the derivative", function()
    local y = pl.max_pool1d(pl.tensor{3, 1, 0/0, 2, 2}, 2, 1)
    assert.are.same({false, true, true, false}, pl.isnan(y):totable())
    local g = pl.grad(function(p) return pl.sum(pl.max_pool1d(p, 3)) end)(pl.tensor{1, 2, 2, 5, 5, 5})
    assert.are.same({0, 1, 0, 1, 0, 0}, g:totable())
    assert.are.same({-7, -8}, pl.max_pool1d(pl.tensor{-7, -8, -9}, {window = 2, stride = 2, padding = 1}):totable())
    assert.are.equal("i64", pl.max_pool1d(pl.tensor({1, 2}, {dtype = "i64"}), 2).dtype)
    assert.are.same({0, 2, 3}, pl.avg_pool1d(pl.ones(0, 2, 7), 2).shape)
  end)

  it("say what does not fit", function()
    local fails = require("tests.expect").fails
    local x, w = pl.zeros(1, 4, 5, 5), pl.zeros(3, 4, 3, 3)
    local x1, w1 = pl.zeros(1, 1, 5), pl.zeros(1, 1, 3)
    fails("conv2d: shapes {1, 2, 5, 5} and {3, 4, 3, 3}: x has 2 channels a group, the weights are for 4", pl.conv2d, pl.zeros(1, 2, 5, 5), w)
    fails("{1, 4, 5, 5} and {3, 2, 3, 3}: 2 groups do not divide 4 channels and 3 of the weights", pl.conv2d, x, pl.zeros(3, 2, 3, 3), {groups = 2})
    fails("0 groups do not divide", pl.conv2d, x, w, {groups = 0})
    fails("{1, 4, 5, 5} and {3, 4, 3, 3}: the window covers 7 elements of axis 3, which has 5 with its padding", pl.conv2d, x, w, {dilation = 3})
    fails("dilation is 1 to 2^31 - 1, not 0", pl.conv2d, x, w, {dilation = 0})
    fails("{1, 4, 5, 5} and {3, 4, 3, 3}: stride is 1 to 2^31 - 1, not 0", pl.conv2d, x, w, {stride = 0})
    fails("stride is one number, or one for each of 2 axes, not 3 numbers", pl.conv2d, x, w, {stride = {1, 2, 3}})
    fails("padding is 0 to 2^31 - 1, not -1", pl.conv2d, x, w, {padding = -1})
    fails("{1, 4, 5} and {3, 4, 3, 3}: x {batch, channels, ...} and weights {out, channels/groups, window...} need 4 axes each", pl.conv2d, pl.zeros(1, 4, 5), w)
    fails("the window is empty", pl.conv2d, x, pl.zeros(3, 4, 0, 3))
    fails("conv1d: shapes {1, 1, 5} and {1, 1, 3}: the result has 4.29e+09 elements", pl.conv1d, x1, w1, {padding = 2^31 - 1})
    fails("conv_transpose1d: shapes {1, 1, 5} and {1, 1, 3}: output_padding 1 is not less than the stride or the dilation, 1",
      pl.conv_transpose1d, x1, w1, {output_padding = 1})
    fails("axis 3 of the result would have -1 elements", pl.conv_transpose1d, x1, w1, {padding = 4})
    fails("{1, 1, 5} and {2, 1, 3}: x has 1 channels, the weights are for 2", pl.conv_transpose1d, x1, pl.zeros(2, 1, 3))
    fails("the result has 8.59e+09 elements", pl.conv_transpose1d, x1, w1, {stride = 2^31 - 1})
    fails("max_pool2d: shapes {1, 4, 5, 5}: the window covers 6 elements of axis 3, which has 5 with its padding", pl.max_pool2d, x, 6)
    fails("{1, 4, 5, 5}: padding 2 is more than half of the window, 3", pl.max_pool2d, x, {window = 3, padding = 2})
    fails("max_pool2d: shapes {5}: 2 axes or more are needed", pl.max_pool2d, pl.zeros(5), 2)
    fails("window is 1 to 2^31 - 1, not 0", pl.avg_pool2d, x, 0)
    fails("window is missing", pl.avg_pool2d, x)
    fails("convolve: shapes {0} and {3}: neither may be empty", pl.convolve, pl.zeros(0), pl.zeros(3))
    fails("{2, 3} and {3}: two of 1 to 3 axes, as many each, are needed", pl.correlate, pl.zeros(2, 3), pl.zeros(3))
    fails("{2, 3} and {3, 2}: for valid one must be at least as long as the other along every axis", pl.convolve, pl.zeros(2, 3), pl.zeros(3, 2), "valid")
    fails("convolve: mode is full, same, valid, not vald", pl.convolve, pl.zeros(3), pl.zeros(3), "vald")
    fails("it is either same or valid", pl.convolve, pl.zeros(3), pl.zeros(3), {same = true, valid = true})
    fails("gaussian_filter: sigma -1 and truncate 4: neither may be negative", pl.gaussian_filter, pl.zeros(3), -1)
    fails("gaussian_filter: 2 sigmas for 1 axes", pl.gaussian_filter, pl.zeros(3), {1, 2})
    fails("with margins of 4e+08 elements", pl.gaussian_filter, pl.zeros(100, 100), 1e8)
    fails("of nearest, constant and wrap at most one holds", pl.gaussian_filter, pl.zeros(3), 1, {nearest = true, wrap = true})
    fails("gaussian_filter: mode is reflect, nearest, constant, wrap, not mirror", pl.gaussian_filter, pl.zeros(3), 1, "mirror")
  end)
end)
