-- Interpolation of curves and on grids against SciPy's figures (tests/data/interpolation.csv), closed forms, polynomials that it must
-- reproduce and measured orders of convergence.
local pl = require "perilune"

local function same(t, want) assert.are.same(want, t:totable()) end
local function close(a, b, tolerance)
  local e = pl.max(pl.abs(a - b)):item()
  assert.is_true(e <= (tolerance or 1e-13), ("off by %.3g"):format(e))
end
local fails = require("tests.expect").fails
local nan, inf = 0/0, math.huge

local data = {}
for line in io.lines "tests/data/interpolation.csv" do
  local list = {}
  for number in line:gmatch(",([^,]+)") do list[#list + 1] = tonumber(number) end
  data[line:match("^[^,]+")] = pl.tensor(list)
end

-- The order p of an error e(n) = C/n^p, from n and 2 n.
local function order(e, n) return math.log(e(n)/e(2*n))/math.log(2) end
local function random(seed, n, lo, hi) return lo + (hi - lo)*pl.rng(seed):uniform(n) end

local curves = {
  interp = pl.interp, pchip = pl.pchip, natural = pl.cubic_spline,
  not_a_knot = function(x, places, values) return pl.cubic_spline(x, places, values, {not_a_knot = true}) end,
}
local names = {"interp", "pchip", "natural", "not_a_knot"}

describe("curves", function()
  it("are SciPy's, with their slopes", function()
    for _, name in ipairs{"natural", "not_a_knot", "pchip"} do
      local f = curves[name]
      close(f(data.x, data.places, data.values), data[name])
      local slope = pl.grad(function(x) return pl.sum(f(x, data.places, data.values)) end)(data.x)
      close(slope, data[name .. "_slope"], 1e-12)
    end
    close(pl.pchip(pl.tensor{1.5, 2, 2.5}, pl.tensor{1, 3}, pl.tensor{2, 5}), data.pchip_two)
    close(pl.pchip(pl.tensor{0.3, 1.2, 2.9}, pl.tensor{0, 1, 3}, pl.tensor{0, 4, 5}), data.pchip_three)
    close(pl.pchip(pl.tensor{0.1, 0.6, 0.9, 1.1, 1.7, 2.6}, pl.tensor{0, 1, 1.2, 3}, pl.tensor{0, 0.1, 5, -20}), data.pchip_turn)
  end)

  it("converge with their order on uneven places", function()
    local x = random(1, 400, 0.5, 1.5) -- away from the ends, whose slopes pchip and the natural spline do not know
    local want = {interp = 2, natural = 4, not_a_knot = 4}
    for name, p in pairs(want) do
      local function e(n)
        local places = pl.linspace(0, 2, n)
        places = places + 0.1*pl.sin(math.pi*places)
        return pl.max(pl.abs(curves[name](x, places, pl.exp(pl.sin(3*places))) - pl.exp(pl.sin(3*x)))):item()
      end
      local got = order(e, 160)
      assert.is_true(math.abs(got - p) < 0.25, ("%s: order %.2f"):format(name, got))
    end
    -- pchip: where the curve is monotone, even places: Fritsch and Butland's slopes are of second order
    local function e(n)
      local places = pl.linspace(0, 2, n)
      return pl.max(pl.abs(pl.pchip(x, places, pl.exp(places)) - pl.exp(x))):item()
    end
    assert.is_true(order(e, 100) > 2.8)
    -- up to the end only where the end's condition holds
    local function at_end(f)
      return function(n)
        local places = pl.linspace(0, 1, n)
        return pl.max(pl.abs(f(pl.linspace(0, 1, 3*n), places, pl.exp(places)) - pl.exp(pl.linspace(0, 1, 3*n)))):item()
      end
    end
    assert.is_true(math.abs(order(at_end(curves.not_a_knot), 40) - 4) < 0.25)
    assert.is_true(math.abs(order(at_end(curves.natural), 40) - 2) < 0.25)
  end)

  it("reproduce what they must", function()
    local places, x = pl.tensor{-1, 0, 0.3, 2, 2.5, 4}, random(2, 50, -1, 4)
    for _, name in ipairs(names) do
      close(curves[name](x, places, 2 - 3*places), 2 - 3*x)
      close(curves[name](places, places, pl.sin(places)), pl.sin(places))
    end
    close(curves.not_a_knot(x, places, places^3 - places^2), x^3 - x^2, 1e-12)
    close(pl.cubic_spline(pl.tensor{0.25, 0.5}, pl.tensor{0, 1}, pl.tensor{2, 4}), pl.tensor{2.5, 3})
  end)

  it("pchip is monotone where the values are", function()
    local rng = pl.rng(4)
    for k = 1, 20 do
      local steps, rises = rng:uniform(30) + 0.01, rng:uniform(30)^6
      local y = pl.pchip(pl.linspace(pl.sum(steps(pl.tensor({1}, {dtype = "i64"}))):item(), pl.sum(steps):item(), 2000), pl.cumsum(steps), pl.cumsum(rises))
      assert.is_true(pl.min(pl.diff(y)):item() >= -1e-14, tostring(k))
    end
    assert.is_true(pl.min(pl.diff(pl.cubic_spline(pl.linspace(0, 5, 200), pl.arange(0, 5), pl.tensor{0, 0, 0, 1, 1, 1}))):item() < 0)
  end)

  it("beyond the ends stay constant, also at infinity; a NaN is a NaN; at an end the slope is the inner one", function()
    local places, values = pl.tensor{1, 2, 4, 5}, pl.tensor{10, 20, 0, 3}
    for _, name in ipairs(names) do
      local f = curves[name]
      local x = pl.tensor{-inf, 0.5, 7, inf}
      close(f(x, places, values), pl.tensor{10, 10, 3, 3}, 1e-14)
      assert.is_true(pl.isnan(f(pl.tensor(nan), places, values)):totable())
      local slope = pl.grad(function(v) return pl.sum(f(v, places, values)) end)
      local g, near = slope(pl.tensor{0.5, 1, 5, 7}), slope(pl.tensor{1 + 1e-9, 5 - 1e-9})
      assert.are.same({0, 0}, {g:item(1), g:item(4)})
      close(g("2:3"), near, 1e-6)
      -- beyond the end the value is the end's: so is the gradient
      same(pl.grad(function(v) return pl.sum(f(pl.tensor{0.5, 7}, places, v)) end)(values), {1, 0, 0, 1})
      -- a point masked out contributes nothing, NaN or not
      local masked = pl.grad(function(p)
        local y = f(p[1], places, p[2])
        return pl.sum(pl.where(pl.isnan(y), 0, y))
      end)({pl.tensor{nan, 1.5}, values})
      assert.is_true(pl.all(pl.isfinite(masked[2])))
      assert.are.equal(0, masked[1]:item(1))
    end
    same(pl.grad(function(v) return pl.sum(pl.interp(v, places, values)) end)(pl.tensor{2, 4}), {-10, 3}) -- to the right
  end)

  it("have derivatives in points, places and values, of both orders", function()
    local p = {x = pl.tensor{1.3, 2.7, 3.1, 4.4}, places = pl.tensor{1, 2, 2.9, 4, 5}, values = pl.tensor{10, 20, 24, 25.5, 3}}
    for _, name in ipairs(names) do
      pl.check_grad(function(q) return pl.sum(curves[name](q.x, q.places, q.values)^2)/100 end, p)
    end
    -- second derivative of a natural spline: 0 at the ends, linear between
    local values = pl.tensor{10, 20, 24, 25.5, 3}
    local function second(x)
      return pl.grad(function(v) return pl.sum(pl.grad(function(u) return pl.sum(pl.cubic_spline(u, p.places, values)) end)(v)) end)(x)
    end
    close(second(pl.tensor{1, 5}), pl.tensor{0, 0}, 1e-11)
    local s = second(pl.tensor{2, 2.45, 2.9})
    close(s(2), (s(1) + s(3))/2, 1e-11)
  end)

  it("places of any size do no harm, even places at their ends are found", function()
    local x = pl.tensor{-inf, -1e308, 0, 0.5, 1e308, inf, nan}
    for _, places in ipairs{pl.tensor{-inf, 0, 1, 2}, pl.tensor{-1.7e308, 0, 1, 1.7e308}, pl.tensor{0, 1, 2, inf}, pl.tensor{0, 5e-324, 1e-323, 1}} do
      for _, name in ipairs(names) do assert.are.same({7}, curves[name](x, places, pl.tensor{1, 2, 0, 5}).shape) end
      for _, name in ipairs{"bilinear", "bicubic"} do assert.are.same({7}, pl[name](x, x, places, places, pl.ones(4, 4)).shape) end
    end
    for _, n in ipairs{2, 3, 10, 49, 1000} do
      local places = pl.linspace(0.1, 0.7, n)
      close(pl.interp(places, places, pl.arange(1, n)), pl.arange(1, n), 1e-15*n)
    end
  end)

  it("of several curves at once: values {..., n}, points of any shape", function()
    local places, values = pl.tensor{1, 2, 4, 5}, pl.rng(2):normal(2, 3, 4)
    local x = pl.tensor{{1.5, 4.1}, {3, 9}}
    for _, name in ipairs(names) do
      local y = curves[name](x, places, values)
      assert.are.same({2, 3, 2, 2}, y.shape)
      for i = 1, 2 do for j = 1, 3 do close(y(i, j, ":", ":"), curves[name](x, places, values(i, j, ":")), 0) end end
      assert.are.same({}, curves[name](pl.tensor(1.5), places, values(1, 1, ":")).shape)
      assert.are.same({2, 3, 0}, curves[name](pl.zeros(0), places, values).shape)
    end
  end)

  it("say what is wrong", function()
    local places, values = pl.tensor{1, 2, 4, 5}, pl.ones(4)
    for _, name in ipairs(names) do
      local f = curves[name]
      fails("place 3 is 2, the one before it 2", f, pl.ones(2), pl.tensor{1, 2, 2, 5}, values)
      fails("places must ascend", f, pl.ones(2), pl.tensor{1, nan, 2, 5}, values)
      fails("as many along their last axis", f, pl.ones(2), places, pl.ones(5))
      fails("as many along their last axis", f, pl.ones(2), pl.ones(2, 2), pl.ones(2, 2))
      fails("or more", f, pl.ones(2), pl.ones(1), pl.ones(1))
    end
    fails("4 or more", curves.not_a_knot, pl.ones(2), pl.tensor{1, 2, 3}, pl.ones(3))
    fails("as many", pl.interp, pl.ones(2), places, pl.tensor(1))
  end)
end)

-- A grid's values: solid[i][j][k] as in interpolation.py, of indices from 0.
local function solid()
  local i, j, k = pl.meshgrid(pl.arange(0, 5), pl.arange(0, 4), pl.arange(0, 3))
  return pl.sin(1 + i*j) + i/(1 + j) + pl.cos(k*(1 + i))
end
local plane = solid()(":", ":", 1)

-- Keys' kernel, a = -1/2, his equation 15, and edges: c_0 = 3 c_1 - 3 c_2 + c_3.
local function keys(values, x)
  local n = #values
  local function c(k)
    if k == 0 then return 3*values[1] - 3*values[2] + values[3] end
    if k == n + 1 then return 3*values[n] - 3*values[n - 1] + values[n - 2] end
    return values[k] or 0
  end
  local sum = 0
  for k = 0, n + 1 do
    local s = math.abs(x - k)
    local w = s < 1 and 1.5*s^3 - 2.5*s^2 + 1 or s < 2 and -0.5*s^3 + 2.5*s^2 - 4*s + 2 or 0
    sum = sum + w*c(k)
  end
  return sum
end

describe("grids", function()
  it("bilinear and trilinear are SciPy's, at places and at indices", function()
    local d = data
    close(pl.bilinear(d.query_x, d.query_y, d.places_x, d.places_y, plane), d.bilinear)
    close(pl.trilinear(d.query_x, d.query_y, d.query_z, d.places_x, d.places_y, d.places_z, solid()), d.trilinear)
    close(pl.bilinear(d.index_x, d.index_y, plane), d.bilinear_index)
    close(pl.trilinear(d.index_x, d.index_y, d.index_z, solid()), d.trilinear_index)
  end)

  it("bicubic is Keys' cubic convolution along each axis", function()
    local rows = plane:totable()
    local x, y = random(5, 40, 1, 6), random(6, 40, 1, 5)
    local got = pl.bicubic(x, y, plane)
    for p = 1, 40 do
      local column = {}
      for i = 1, 6 do column[i] = keys(rows[i], y:item(p)) end
      assert.is_true(math.abs(got:item(p) - keys(column, x:item(p))) < 1e-13)
    end
    -- even places are indices
    close(pl.bicubic(3*x - 7, y/4, 3*pl.arange(1, 6) - 7, pl.arange(1, 5)/4, plane), got, 1e-12)
    -- on the smallest grid, the parabola
    local three = pl.tensor{1, 2, 3}
    close(pl.bicubic(random(7, 9, 1, 3), 2, (three^2):expand(3)), random(7, 9, 1, 3)^2)
  end)

  it("reproduce polynomials, edges included: bilinear x y, bicubic quadratics in each, on uneven places", function()
    local xs, ys, zs = pl.tensor{0, 0.3, 1, 1.2, 2}, pl.tensor{-1, 0.5, 0.7, 3}, pl.tensor{2, 5, 6}
    local x, y, z = random(8, 60, 0, 2), random(9, 60, -1, 3), random(10, 60, 2, 6)
    local gx, gy = pl.meshgrid(xs, ys)
    local function product(u, v) return (1 + 2*u)*(3 - v) end
    local function quadratic(u, v) return (1 + u - 2*u^2)*(v^2 - v + 0.5) end
    close(pl.bilinear(x, y, xs, ys, product(gx, gy)), product(x, y))
    close(pl.bicubic(x, y, xs, ys, quadratic(gx, gy)), quadratic(x, y), 1e-12)
    local hx, hy, hz = pl.meshgrid(xs, ys, zs)
    close(pl.trilinear(x, y, z, xs, ys, zs, product(hx, hy)*(4 - hz)), product(x, y)*(4 - z), 1e-12)
    -- and their derivatives
    local g = pl.grad(function(p) return pl.sum(pl.bicubic(p, y, xs, ys, quadratic(gx, gy))) end)(x)
    close(g, (1 - 4*x)*(y^2 - y + 0.5), 1e-12)
    local h = pl.grad(function(q) return pl.sum(pl.grad(function(p) return pl.sum(pl.bicubic(p, y, xs, ys, quadratic(gx, gy))) end)(q)) end)(x)
    close(h, -4*(y^2 - y + 0.5), 1e-11)
  end)

  it("converge with their order, up to the edge: 2 and 3", function()
    local x, y, z = random(11, 4000, 0, 1), random(12, 4000, 0, 1), random(13, 4000, 0, 1)
    local function f(u, v) return pl.sin(3*u + 1)*pl.exp(v*u) end
    local function places(n) local t = pl.linspace(0, 1, n) return t + 0.1*pl.sin(math.pi*t) end
    for _, even in ipairs{true, false} do
      for name, p in pairs{bilinear = 2, bicubic = 3} do
        local got = order(function(n)
          local t = even and pl.linspace(0, 1, n) or places(n)
          return pl.norm(pl[name](x, y, t, t, f(pl.meshgrid(t, t))) - f(x, y)):item()
        end, 150)
        assert.is_true(math.abs(got - p) < 0.25, ("%s: order %.2f"):format(name, got))
      end
    end
    local got = order(function(n)
      local t = pl.linspace(0, 1, n)
      local gx, gy, gz = pl.meshgrid(t, t, t)
      return pl.max(pl.abs(pl.trilinear(x, y, z, t, t, t, f(gx, gy)*pl.cos(gz)) - f(x, y)*pl.cos(z))):item()
    end, 12)
    assert.is_true(math.abs(got - 2) < 0.35, ("trilinear: order %.2f"):format(got))
  end)

  it("bicubic has a continuous slope, bilinear that of the cell to the right", function()
    local function slope(name, x, y)
      return pl.grad(function(p) return pl.sum(pl[name](p, y, plane)) end)(pl.tensor(x))
    end
    for _, i in ipairs{2, 3, 5} do close(slope("bicubic", {i - 1e-9}, pl.tensor{2.3}), slope("bicubic", {i}, pl.tensor{2.3}), 1e-7) end
    local row = plane(":", 2)
    close(slope("bilinear", {2, 6, 6.5, 0.5}, pl.full({4}, 2)), pl.stack{row(3) - row(2), row(6) - row(5), pl.tensor(0), pl.tensor(0)})
  end)

  it("beyond the edge stay constant; NaN gives NaN and no place out of the grid", function()
    for _, name in ipairs{"bilinear", "bicubic"} do
      local f = pl[name]
      close(f(pl.tensor{-inf, 0, 6, inf, 9}, pl.tensor{-3, 0.2, 5, inf, 3}, plane),
        pl.stack{plane(1, 1), plane(1, 1), plane(6, 5), plane(6, 5), plane(6, 3)})
      local y = f(pl.tensor{nan, 2, nan, 2}, pl.tensor{2, nan, nan, 2}, plane)
      same(pl.isnan(y), {true, true, true, false})
      local g = pl.grad(function(p)
        local v = f(p.x, p.y, p.v)
        return pl.sum(pl.where(pl.isnan(v), 0, v))
      end)({x = pl.tensor{nan, 2.5}, y = pl.tensor{2, 2.5}, v = plane})
      assert.is_true(pl.all(pl.isfinite(g.v)) and pl.all(pl.isfinite(g.x)))
      assert.is_true(pl.all(pl.isnan(pl.grad(function(x) return pl.sum(f(x, 2, plane)) end)(pl.tensor{nan}))))
      assert.is_true(pl.isnan(f(nan, 2, pl.arange(1, 6), pl.arange(1, 5), plane)):totable())
    end
  end)

  it("fields {..., n, m} at points of any shape, coordinates broadcast", function()
    local v = pl.rng(3):normal(3, 2, 6, 5)
    local x, y = pl.tensor{{1.5, 2}, {4.2, 5.9}}, pl.tensor{1.1, 4.5}
    for _, name in ipairs{"bilinear", "bicubic"} do
      local all = pl[name](x, y, v)
      assert.are.same({3, 2, 2, 2}, all.shape)
      for i = 1, 3 do for j = 1, 2 do close(all(i, j, ":", ":"), pl[name](x, y, v(i, j, ":", ":")), 0) end end
      assert.are.same({}, pl[name](1.5, 2, plane).shape)
      assert.are.same({3, 2, 0}, pl[name](pl.zeros(0), 2, v).shape)
    end
    local s = pl.bilinear(pl.tensor({1.5}, {dtype = "f32"}), pl.tensor({2}, {dtype = "f32"}), plane:to("f32"))
    assert.are.equal("f32", s.dtype)
    same(pl.bilinear(2, 3, pl.tensor({{1, 2, 3}, {4, 5, 6}}, {dtype = "i64"})), 6)
  end)

  it("have derivatives in points and values, not in places", function()
    local rng = pl.rng(7)
    local x, y, z = rng:uniform(5)*4 + 1, rng:uniform(5)*3 + 1, rng:uniform(5)*2 + 1
    local xs, ys = pl.tensor{1, 1.5, 3, 4, 5, 6}, pl.tensor{1, 2, 3.5, 4, 5}
    pl.check_grad(function(p) return pl.sum(pl.bilinear(p.x, p.y, p.v)^2) end, {x = x, y = y, v = plane})
    pl.check_grad(function(p) return pl.sum(pl.bicubic(p.x, p.y, p.v)^2) end, {x = x, y = y, v = plane})
    pl.check_grad(function(p) return pl.sum(pl.bicubic(p.x, p.y, xs, ys, p.v)^2) end, {x = x, y = y, v = plane})
    pl.check_grad(function(p) return pl.sum(pl.trilinear(p.x, p.y, p.z, p.v)^2) end, {x = x, y = y, z = z, v = solid()})
    fails("no derivative with respect to the grid's places (axis 2)", pl.grad(function(p) return pl.sum(pl.bicubic(x, y, xs, p, plane)) end), ys)
    fails("no derivative with respect to the grid's places (axis 1)", pl.jvp, function(p) return pl.bilinear(x, y, p, ys, plane) end, xs, xs)
    -- what the message advises
    pl.check_grad(function(p)
      return pl.sum(pl.bilinear(pl.interp(x, p, pl.arange(1, 6)), pl.interp(y, ys, pl.arange(1, 5)), plane)^2)
    end, xs + 0.01)
    -- the adjoint: <V(x), w> = <v, V'w>, and sums do not depend on threads
    local n = 20000
    local v, w = rng:normal(40, 30), rng:normal(n)
    local i, j = rng:uniform(n)*42, rng:uniform(n)*32
    local function back(threads)
      return pl.with({threads = threads}, function() return pl.grad(function(p) return pl.sum(pl.bicubic(i, j, p)*w) end)(v) end)
    end
    close(pl.sum(back(1)*v), pl.sum(pl.bicubic(i, j, v)*w), 1e-9)
    close(back(1), back(3), 0)
  end)

  it("say what is wrong", function()
    local x = pl.ones(2)
    fails("3 or 5 tensors, not 4", pl.bilinear, x, x, pl.arange(1, 6), plane)
    fails("4 or 7 tensors, not 3", pl.trilinear, x, x, plane)
    fails("do not broadcast", pl.bilinear, x, pl.ones(3), plane)
    fails("shape {3} are no grid of 2 axes", pl.bilinear, x, x, pl.ones(3))
    fails("axis 2 has 1 values; 2 or more", pl.bilinear, x, x, pl.ones(3, 1))
    fails("axis 1 has 2 values; 3 or more", pl.bicubic, x, x, pl.ones(2, 3))
    fails("axis 2 has 5 values, its places are of shape {4}", pl.bilinear, x, x, pl.arange(1, 6), pl.arange(1, 4), plane)
    fails("bicubic: places must ascend along axis 2: place 3 is 1, the one before it 2", pl.bicubic, x, x, pl.arange(1, 6), pl.tensor{1, 2, 1, 4, 5}, plane)
    fails("more than 8 axes", pl.bilinear, pl.ones(1, 1, 1, 1), 1, pl.ones(1, 1, 1, 1, 1, 2, 2))
    fails("not 1", pl.bilinear, x)
  end)
end)

describe("interpolation in programs", function()
  it("compiled and mapped, over points, values and both", function()
    local rng = pl.rng(9)
    local x, y, v = rng:uniform(4, 3)*5 + 1, rng:uniform(4, 3)*4 + 1, rng:normal(4, 6, 5)
    local places, values = pl.tensor{0, 1, 2.5, 4, 6}, rng:normal(4, 5)
    for _, f in ipairs{pl.bilinear, pl.bicubic} do
      assert.are.equal(0, pl.max(pl.abs(pl.compile(f)(x, y, plane) - f(x, y, plane))):item())
      local points = pl.map(function(p) return f(p[1], p[2], v) end, {x, y})
      local fields = pl.map(function(p) return f(x, y, p) end, v)
      local both = pl.map(function(p) return f(p[1], p[2], p[3]) end, {x, y, v})
      local single = pl.map(function(p) return f(p, 2.5, v) end, x(":", 1))
      for k = 1, 4 do
        close(points(k, ":", ":"), f(x(k, ":"), y(k, ":"), v), 0)
        close(fields(k, ":", ":"), f(x, y, v(k, ":", ":")), 0)
        close(both(k, ":"), f(x(k, ":"), y(k, ":"), v(k, ":", ":")), 0)
        close(single(k, ":"), f(x(k, 1), 2.5, v), 0)
      end
      pl.check_grad(function(p)
        return pl.sum(pl.map(function(q) return f(q, p.y, p.v)^2 end, p.x)) + pl.sum(pl.map(function(q) return f(q[1], p.y, q[2])^2 end, {p.x, p.v}))
      end, {x = x, y = y(1, ":"), v = v})
    end
    for _, name in ipairs(names) do
      local f = curves[name]
      close(pl.compile(f)(x, places, values), f(x, places, values), 1e-14)
      local mapped = pl.map(function(p) return f(p[1], places, p[2]) end, {x, values})
      for k = 1, 4 do close(mapped(k, ":"), f(x(k, ":"), places, values(k, ":")), 1e-13) end
      pl.check_grad(function(p) return pl.sum(pl.map(function(q) return f(q[1], places, q[2])^2 end, {p.x, p.v})) end, {x = x + 0.01, v = values})
    end
  end)

  it("a semi-Lagrangian step in a scan, with its gradient", function()
    local n, steps = 32, 5
    local i, j = pl.meshgrid(pl.arange(1, n), pl.arange(1, n))
    local field = pl.exp(-((i - 12)^2 + (j - 18)^2)/20)
    local function advected(f, p) -- rotation about the centre, backward along it
      local function step(c)
        local u, v = -(j - 16.5)*p.spin + p.drift, (i - 16.5)*p.spin
        return f(i - u, j - v, c)
      end
      return (pl.scan(step, p.c, steps))
    end
    local p = {c = field, spin = 0.05, drift = 0.31}
    local still = advected(pl.bicubic, {c = field, spin = 0, drift = 0})
    close(still, field, 1e-14)
    local moved = pl.sum(advected(pl.bicubic, p)*i)/pl.sum(field) -- the centre turns and drifts
    assert.is_true(math.abs(moved:item() - pl.sum(field*i):item()/pl.sum(field):item()) > 0.5)
    for _, f in ipairs{pl.bilinear, pl.bicubic} do
      local target = 0.5*field
      local function loss(q) return pl.sum((advected(f, q) - target)^2) end
      pl.check_grad(loss, {c = field, spin = 0.0517, drift = 0.3123})
      close(pl.compile(loss)(p), loss(p), 1e-13)
    end
  end)
end)
