-- pl.map against a loop over the entries: values, derivatives, nesting, errors.
local pl = require "perilune"
local core = require "perilune.core"
local sparse = pl.sparse

local rng = pl.rng(11)

local function leaves(t)
  local list = {}
  for k, leaf in ipairs(pl.tree.leaves(t)) do list[k] = leaf.number and core.tensor(leaf.value) or leaf.value end
  return list
end

local function same_shape(a, b) assert.are.same(b.shape, a.shape) end

-- Equal shapes and dtypes, and numbers within the tolerance relative to the largest (0: the same bits).
local function equal(got, want, tolerance)
  same_shape(got, want)
  assert.are.equal(want.dtype, got.dtype)
  if want.count == 0 then return end
  if want.dtype == "bool" then got, want = got:to "f64", want:to "f64" end
  local difference, scale = pl.max(pl.abs(got - want)):item(), pl.max(pl.abs(want)):item()
  assert.is_true(difference <= tolerance*scale, ("differs by %g of %g"):format(difference, scale))
end

local function entry(xs, i) return pl.tree.map(function(x) return x[i] end, xs) end

-- f on each entry, results stacked: for each result its leaves.
local function looped(f, xs)
  local n, all = leaves(xs)[1].shape[1], {}
  for i = 1, n do
    local out = {f(entry(xs, i))}
    for k = 1, table.maxn(out) do
      all[k] = all[k] or {}
      for l, leaf in ipairs(leaves(out[k])) do
        all[k][l] = all[k][l] or {}
        all[k][l][i] = leaf
      end
    end
  end
  for _, result in ipairs(all) do
    for l, list in ipairs(result) do result[l] = pl.stack(list) end
  end
  return all
end

-- Values of map and loop agree; so do the slopes of a smooth sum of all float results with respect to xs.
local function check(f, xs, tolerance, slopes)
  local want, got = looped(f, xs), {pl.map(f, xs)}
  assert.are.equal(#want, #got)
  for k, list in ipairs(want) do
    local mine = leaves(got[k])
    assert.are.equal(#list, #mine)
    for l, t in ipairs(list) do equal(mine[l], t, tolerance or 0) end
  end
  if slopes == false then return end
  local function total(values)
    local sum, weight = core.tensor(0), 0
    for _, t in ipairs(values) do
      weight = weight + 0.5
      if t.dtype == "f64" and t.count > 0 then sum = sum + pl.sum(pl.sin(t*weight)) end
    end
    return sum
  end
  local function mapped(p)
    local values = {}
    for _, y in ipairs{pl.map(f, p)} do for _, t in ipairs(leaves(y)) do values[#values + 1] = t end end
    return total(values)
  end
  local function one(p)
    local values = {}
    for _, list in ipairs(looped(f, p)) do for _, t in ipairs(list) do values[#values + 1] = t end end
    return total(values)
  end
  local a, b = leaves(pl.grad(mapped)(xs)), leaves(pl.grad(one)(xs))
  for k, g in ipairs(b) do equal(a[k], g, 1e-13) end
  pl.check_grad(mapped, xs)
  -- forward mode, and reverse over forward
  local t = pl.tree.map(function(x) return pl.cos(x*3 + 1) end, xs)
  local _, d1 = pl.jvp(mapped, xs, t)
  local _, d2 = pl.jvp(one, xs, t)
  equal(d1, d2, 1e-12)
  a, b = leaves(pl.hvp(mapped)(xs, t)), leaves(pl.hvp(one)(xs, t))
  for k, h in ipairs(b) do equal(a[k], h, 1e-12) end
end

local v = rng:normal(5, 3)            -- 5 vectors
local m = rng:normal(5, 3, 4)         -- 5 matrices
local c = rng:normal(5, 2, 3, 4)      -- 5 stacks
local s = rng:normal(5)               -- 5 numbers
local A, B = rng:normal(3, 4), rng:normal(4, 2)
local a3 = rng:normal(3)

describe("map", function()
  it("elementwise: ranks align, the bits are those of a loop", function()
    check(function(x) return pl.sin(x)*2 + 1, pl.exp(x)/(x^2 + 1), -x end, v)
    check(function(x) return x*a3, a3 - x, x + A:transpose() end, v) -- {3} against {4, 3}, shared
    check(function(e) return e.m*e.s, e.c*e.m + e.s, pl.maximum(e.m, e.s) end, {m = m, s = s, c = c})
    check(function(e) return e.x + e.s, e.s^2 end, {x = v, s = s})
    check(function(x) return pl.where(x:gt(0), x*3, x^2), pl.clip(x, -0.5, 0.7), pl.softplus(x, {sharpness = 3}) end, m)
    check(function(x) return x:gt(0), pl.logical_not(x:lt(0.3)), x:to "f32", (x*10):to "i64" end, m, 0, false)
  end)

  it("reductions and running sums", function()
    check(function(x) return pl.sum(x), pl.sum(x, {axis = 1}), pl.sum(x, {axis = -1}), pl.sum(x, {axis = {1, 2}, keep = true}) end, m, 1e-14)
    check(function(x) return pl.mean(x, {axis = 2}), pl.prod(x), pl.prod(x, {axis = {3, 1}}), pl.max(x, {axis = -2}), pl.min(x) end, c, 1e-14)
    check(function(x) return pl.norm(x), pl.norm(x, {axis = 1}), pl.norm(x, "max") end, m, 1e-14)
    check(function(x) return pl.sum(x), pl.max(x)*x, pl.prod(x) end, s, 1e-14) -- of a number
    check(function(x) return pl.cumsum(x), pl.cumsum(x, {axis = -1, reverse = true}) end, m, 1e-14)
    check(function(x) return pl.cumsum(x)*2 end, s, 1e-14)
    check(function(x) return pl.diff(x), pl.sum(x*A, {axis = 2}) end, m, 1e-14)
  end)

  it("shapes and slices", function()
    check(function(x) return x:reshape{2, 6}, x:reshape{-1}, pl.ravel(x), x:reshape{1, 3, 2, 2} end, m)
    check(function(x) return x:transpose(), pl.transpose(x, {axes = {2, 1}}), x.T end, m)
    check(function(x) return pl.transpose(x, {axes = {2, -1, 1}}), pl.transpose(x) end, c)
    check(function(x) return pl.broadcast_to(x, {4, 3}), pl.broadcast_to(x, {3}), pl.broadcast_to(x:reshape{3, 1}, {2, 3, 2}) end, v)
    check(function(x) return pl.broadcast_to(x, {2, 3}) end, s)
    check(function(x) return x[2], x(1, 3), x("2:-1", "4:1:-2"), pl.flip(x), pl.pad(x, {width = {1, 0, 2, 1}}) end, m)
    check(function(x) return x:at(2):set(7), x:at("1:2", 3):add(pl.tensor{1, 2}), x:at(1):set(x[2]*2) end, m)
    check(function(e) return A:at(2):set(e[1]), pl.zeros(2, 3):at(1):add(e[2]) end, {rng:normal(5, 4), v})
    check(function(x) return pl.concat{x, A}, pl.concat({A, x, x}, {axis = -1}), pl.stack{x, A}, pl.stack({x, x}, {axis = 3}) end, m)
  end)

  it("gathers and scatters, shared and own indices", function()
    local shared, own = pl.tensor({3, 1, 1}, {dtype = "i64"}), rng:integers(1, 3, 5, 4)
    check(function(x) return x(shared), pl.gather(x, shared, {axis = 1}), pl.gather(x, pl.tensor({2, 4}, {dtype = "i64"}), {axis = -1}) end, m)
    check(function(x) return pl.add_at(x, shared, pl.ones(3, 4)), x:at(shared):set(pl.ones(3, 4)) end, m)
    check(function(x) return pl.add_at(A, shared, x) end, m) -- the base is shared
    local function with_index(index, f, x)
      check(function(e) return f(e.x, e.index) end, {x = x, index = index}, 0, false)
      -- slopes in x alone
      local n = x.shape[1]
      local function loss(p) return pl.sum(pl.sin((pl.map(function(e) return f(e.x, e.index) end, {x = p, index = index})))) end
      local function one(p)
        local total = core.tensor(0)
        for i = 1, n do total = total + pl.sum(pl.sin((f(p[i], index[i])))) end
        return total
      end
      pl.check_grad(loss, x)
      equal(pl.grad(loss)(x), pl.grad(one)(x), 1e-13)
    end
    with_index(own, function(x, i) return pl.gather(x, i) end, m)
    with_index(own, function(x, i) return pl.gather(x, i, {axis = 2}) end, m)
    with_index(rng:integers(1, 4, 5, 2, 2), function(x, i) return pl.gather(x, i, {axis = 3}) end, c)
    with_index(rng:integers(1, 3, 5, 2, 2), function(x, i) return pl.gather(x, i, {axis = 2}) end, c)
    with_index(rng:integers(1, 3, 5), function(x, i) return x(i) end, m) -- one index an entry
    for axis = 1, 2 do -- the tensor is shared
      local X = axis == 1 and A or A.T:matmul(pl.eye(3))
      check(function(i) return pl.gather(X, i, {axis = axis}) end, own, 0, false)
      local function loss(p) return pl.sum(pl.sin(pl.map(function(i) return pl.gather(p, i, {axis = axis}) end, own))) end
      local function one(p)
        local total = core.tensor(0)
        for i = 1, 5 do total = total + pl.sum(pl.sin(pl.gather(p, own[i], {axis = axis}))) end
        return total
      end
      equal(pl.grad(loss)(X), pl.grad(one)(X), 1e-13)
    end
    with_index(own, function(x, i) return pl.add_at(x, i, pl.ones(4, 4)*2) end, m)
    with_index(own, function(x, i) return pl.add_at(x, i, pl.ones(3, 4)*2, {axis = 2}) end, m)
    with_index(own, function(x, i) return pl.add_at(pl.zeros(3, 4), i, pl.concat{x, x[1]:reshape{1, 4}}) end, m)
    with_index(own, function(x, i) return x:at(i):set(pl.concat{x, x[1]:reshape{1, 4}}) end, m) -- the last stays
    -- an index out of its own entry does not reach into the next one
    for _, bad in ipairs{0, 4, -1} do
      local index = pl.tensor({{1}, {bad}, {1}, {1}, {1}}, {dtype = "i64"})
      assert.has_error.match(function() pl.map(function(e) return pl.gather(e.x, e.index) end, {x = v, index = index}) end, "out of range")
    end
  end)

  it("matrix products: both, the left, the right", function()
    local m2, stack, m3 = rng:normal(5, 4, 2), rng:normal(2, 4, 3), rng:normal(5, 2, 4, 3)
    check(function(e) return e[1]:matmul(e[2]), e[1].T:matmul(A) end, {m, m2}, 1e-14)
    check(function(x) return x:matmul(B), A.T:matmul(x), x:matmul(A.T), B.T:matmul(x.T) end, m, 1e-14)
    check(function(x) return A.T:matmul(x), x:matmul(A), pl.dot(x, a3), pl.dot(x, x) end, v, 1e-14)
    check(function(x) return x:matmul(stack), stack:matmul(x), x:matmul(x:transpose{axes = {1, 3, 2}}) end, c, 1e-14)
    check(function(e) return e[1]:matmul(e[2]) end, {c, m3}, 1e-14)
    -- transposed products, which derivatives make
    local function quadratic(x) return pl.grad(function(y) return pl.sum(pl.sin(y:matmul(B)))end)(x), pl.grad(function(y) return pl.sum(pl.sin(y:matmul(x.T)))end)(A) end
    check(quadratic, m, 1e-13)
  end)

  it("sparse products and solves: right-hand sides, and a matrix of each entry", function()
    local n = 6
    local L = sparse.diags({-1, 3, -0.5}, {-1, 0, 1}, {n, n})
    local x, X, d = rng:normal(5, n), rng:normal(5, n, 2), rng:uniform(5, n) + 2
    check(function(b) return L*b, L.T*b, L:solve(b) end, x, 1e-14)
    check(function(b) return L*b, L:solve(b) end, X, 1e-14)
    -- the matrix's values are batched: one after another
    check(function(e) return (L + sparse.diag(e.d))*e.x end, {x = x, d = d}, 1e-14)
    check(function(e)
      local M = L + sparse.diag(e.d)
      return M:solve(e.x), M:solve(a3[1]*e.x)*2
    end, {x = x, d = d}, 1e-13)
    -- a factor of each entry, read by several solves and inside other programs
    check(function(e)
      local F = (L + sparse.diag(e.d)):factor()
      local y = pl.checkpoint(function(b) return F:solve(b) + 1 end)(e.x)
      local z = pl.cond(pl.sum(e.x):gt(0), function() return F:solve(y) end, function() return y*2 end)
      return F:solve(y), z
    end, {x = x, d = d}, 1e-13)
    check(pl.checkpoint(function(e) return (L + sparse.diag(e.d)):solve(e.x) end), {x = x, d = d}, 1e-13)
    check(function(e) return (pl.scan(function(u) return (L + sparse.diag(e.d)):solve(u) + e.x end, e.x, 3)) end, {x = x, d = d}, 1e-13)
    local F = L:factor() -- of all of them
    check(function(b) return F:solve(b), pl.checkpoint(function(y) return F:solve(y) end)(b) end, x, 1e-14)
    -- shared values get their gradient through every entry
    local function loss(p) return pl.sum(pl.sin(pl.map(function(b) return (L + sparse.diag(p)):solve(b) end, x))) end
    local function one(p)
      local total = core.tensor(0)
      for i = 1, 5 do total = total + pl.sum(pl.sin((L + sparse.diag(p)):solve(x[i]))) end
      return total
    end
    local p = rng:uniform(n) + 1
    pl.check_grad(loss, p)
    equal(pl.grad(loss)(p), pl.grad(one)(p), 1e-13)
  end)

  it("what is captured is shared and gets its gradient; what is the same for all is repeated", function()
    local function loss(p)
      return pl.sum(pl.map(function(x) return pl.sum(pl.tanh(p.W:matmul(x) + p.b))*p.k end, v))
    end
    local function one(p)
      local total = core.tensor(0)
      for i = 1, 5 do total = total + pl.sum(pl.tanh(p.W:matmul(v[i]) + p.b))*p.k end
      return total
    end
    local p = {W = rng:normal(2, 3), b = rng:normal(2), k = 0.7}
    pl.check_grad(loss, p)
    local a, b = pl.grad(loss)(p), pl.grad(one)(p)
    equal(a.W, b.W, 1e-14)
    equal(a.b, b.b, 1e-14)
    assert.is_true(math.abs(a.k - b.k) < 1e-13)
    local same, number, x = pl.map(function(y) return A*2, 3, y end, v)
    equal(same, pl.broadcast_to(A*2, {5, 3, 4}), 0)
    assert.are.same({3, 3, 3, 3, 3}, number:totable())
    equal(x, v, 0)
    equal(pl.grad(function(q) return pl.sum(pl.map(function() return q*q end, v)) end)(a3), a3*10, 1e-15)
  end)

  it("results are trees; modules keep their metatable", function()
    local meta = {__index = {twice = function(self) return self.w*2 end}}
    local model = setmetatable({w = v, name = "n"}, meta)
    local y, z = pl.map(function(e) return {a = e.net:twice(), list = {e.s, e.net.w[1]}}, e.net end, {net = model, s = s})
    equal(y.a, v*2, 0)
    equal(y.list[1], s, 0)
    equal(y.list[2], v(":", 1), 0)
    assert.are.equal(meta, getmetatable(z))
    assert.are.equal("n", z.name)
    equal(z.w, v, 0)
  end)

  it("another number in f is another result, by the same program", function()
    for k = 1, 3 do equal(pl.map(function(x) return x*k + k end, v), v*k + k, 0) end
  end)

  it("nests", function()
    check(function(x) return pl.map(function(row) return pl.sum(row*row), row*x end, x) end, rng:normal(4, 3, 3), 1e-14)
    check(function(x) return pl.map(function(y) return pl.sum(x*y, {axis = 1})*y end, A) end, rng:normal(5, 4), 1e-14) -- x captured
    -- pairs: |x_i - y_j|
    local d = pl.map(function(x) return pl.map(function(y) return pl.norm(x - y) end, A.T) end, v)
    for i = 1, 5 do for j = 1, 4 do assert.is_true(math.abs(d:item(i, j) - pl.norm(v[i] - A(":", j)):item()) < 1e-14) end end
  end)

  it("derivatives inside: a gradient and a Hessian of each entry", function()
    local f = function(x) return pl.sum(pl.exp(x)*a3*x) end
    check(function(x) return pl.grad(f)(x), pl.hvp(f)(x, a3) end, v, 1e-14)
    local H = pl.map(function(x) return pl.map(function(e) return pl.hvp(f)(x, e) end, pl.eye(3)) end, v)
    for i = 1, 5 do -- diagonal: a (2 + x) e^x
      for j = 1, 3 do
        local x = v:item(i, j)
        assert.is_true(math.abs(H:item(i, j, j) - a3:item(j)*(2 + x)*math.exp(x)) < 1e-13)
        assert.are.equal(0, H:item(i, j, j % 3 + 1))
      end
    end
  end)

  it("loops and branches inside", function()
    local function step(w) return function(u, x) return u + 0.1*pl.sin(u*w) + x, {u = u, n = pl.sum(u)} end end
    -- the state, the inputs, the captured value are batched
    check(function(e)
      local u, ys = pl.scan(step(e.w), e.u, e.f)
      return u, ys
    end, {u = v, f = rng:normal(5, 4, 3), w = s}, 1e-14)
    -- the state starts the same for all and becomes another by what is captured
    check(function(w)
      local u, ys = pl.scan(step(w), a3, 4)
      return u, ys.u
    end, s, 1e-14)
    -- nothing in the loop depends on the entry
    check(function(w) return (pl.scan(function(u) return u*1.5, u end, a3, 3))*w end, s, 1e-14)
    -- a state that stops depending on it
    check(function(w) return pl.scan(function(u, k) return {u[2], u[2]*0 + 1, u[1]*w}, u[1]*k end, {w, w*2, a3[1]}, 3) end, s, 1e-14)
    -- checkpoints
    check(function(e) return (pl.scan(step(e.w), e.u, 6, {checkpoints = 2})) end, {u = v, w = s}, 1e-14)
    check(function(x) return (pl.while_loop(function(u) return pl.sum(u*u):lt(10) end, function(u) return u*1.5 + 0.1 end, x)) end, v + 1, 1e-14)
    check(function(x) return pl.cond(pl.sum(x):gt(0), function() return pl.sin(x)*a3 end, function() return x*x end) end, v, 1e-14)
    check(function(x) return pl.cond(a3[1]:gt(0), function() return pl.sin(x) end, function() return x*x end) end, v, 1e-14)
    check(pl.checkpoint(function(x) return pl.sin(x)*a3, pl.sum(x) end), v, 1e-14)
  end)

  it("a gradient through a loop inside", function()
    local function loss(options)
      return function(w) return pl.sum((pl.scan(function(u) return u + 0.1*pl.sin(u*w) end, a3, 5, options))) end
    end
    check(function(w) return pl.grad(loss())(w) end, s, 1e-13)
    local got, want = pl.map(pl.grad(loss{checkpoints = 2}), s), pl.map(pl.grad(loss()), s)
    equal(got, want, 1e-14)
  end)

  it("stands inside loops and branches", function()
    local function f(x)
      return (pl.scan(function(u, k) return pl.map(function(row) return row + 0.1*pl.sin(row)*pl.sum(row*a3)*k end, u) end, x, 3))
    end
    local u = v
    for k = 1, 3 do u = pl.stack{unpack((function() local rows = {} for i = 1, 5 do rows[i] = u[i] + 0.1*pl.sin(u[i])*pl.sum(u[i]*a3)*k end return rows end)())} end
    equal(f(v), u, 1e-14)
    pl.check_grad(function(x) return pl.sum(pl.sin(f(x))) end, v)
    local y = pl.cond(a3[1]:gt(-10), function() return pl.map(pl.sum, v) end, function() return pl.zeros(5) end)
    equal(y, pl.sum(v, {axis = 2}), 1e-14)
    local g = pl.grad(function(x) return pl.sum(pl.checkpoint(function(z) return pl.map(function(r) return pl.sum(r^2) end, z) end)(x)) end)(v)
    equal(g, v*2, 1e-15)
  end)

  it("no entry, and one", function()
    local function f(e)
      local u = pl.scan(function(x, k) return x*k + e.s end, e.m, 2)
      return u:matmul(B), pl.sum(u), pl.gather(u, e.i), pl.where(e.s:gt(0), u, u*2), pl.cond(e.s:gt(0), function() return u end, function() return u*2 end)
    end
    for _, n in ipairs{0, 1} do
      local xs = {m = rng:normal(n, 3, 4), s = rng:normal(n), i = pl.ones(n, 2, {dtype = "i64"})}
      local shapes = {}
      for k, y in ipairs{pl.map(f, xs)} do shapes[k] = y.shape end
      assert.are.same({{n, 3, 2}, {n}, {n, 2, 4}, {n, 3, 4}, {n, 3, 4}}, shapes)
      local g = pl.grad(function(p)
        local total = core.tensor(0)
        for _, y in ipairs{pl.map(f, {m = p, s = xs.s, i = xs.i})} do total = total + pl.sum(y) end
        return total
      end)(xs.m)
      assert.are.same({n, 3, 4}, g.shape)
      if n == 1 then check(f, xs, 1e-14, false) end
    end
  end)

  it("f32 stays f32", function()
    local y = pl.map(function(x) return x*2, pl.sum(x) end, v:to "f32")
    assert.are.equal("f32", y.dtype)
    equal(y, v:to "f32"*2, 0)
  end)

  it("says what is wrong", function()
    local function fails(text, ...)
      local ok, message = pcall(pl.map, ...)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), message)
    end
    local id = function(x) return x end
    fails("a has 5 entries along its first axis and b has 4", id, {a = v, b = rng:normal(4)})
    fails("is a number; what is walked along has a first axis", id, 3)
    fails("k is a number", id, {k = 3, x = v})
    fails("is a number", id, s[1])
    fails("returns nothing", function() end, v)
    fails("returns no tensor", function() return {} end, v)
    fails("needs a function, not nil", nil, v)
    fails("not nil", id)
    fails("nothing to walk along", id, {})
    fails("no option 'axis'; it has none", id, v, {axis = 2})
    fails("options are a table, not number", id, v, 2)
    fails("ninth", function(x) return x:reshape{1, 1, 1, 1, 1, 1, 1, 3} end, v)
    fails("broadcast", function(x) return x + pl.ones(4) end, v)
    fails("string", function() return "text" end, v)
    -- and leaves nothing behind
    equal(pl.map(function(x) return x*2 end, v), v*2, 0)
  end)

  it("of matrices: all entries in one stack", function()
    local stream = pl.rng(9)
    local matrices, b, one = stream:normal(5, 2, 4, 4) + 4*pl.eye(4), stream:normal(5, 2, 4, 3), stream:normal(4, 4) + 4*pl.eye(4)
    local function f(e)
      return pl.sum(pl.solve(e.A, e.b)) + pl.sum(pl.svdvals(pl.matmul(one, e.A))) + pl.sum(pl.solve(one, e.b[1]))
    end
    local all = pl.map(f, {A = matrices, b = b})
    for k = 1, 5 do assert.is_true(math.abs(all:item(k) - f{A = matrices[k], b = b[k]}:item()) < 1e-13) end
    local function loss(M) return pl.sum(pl.map(function(e) return pl.sum(pl.solve(e.A, e.b)^2) end, {A = M, b = b})) end
    assert.is_true(pl.check_grad(loss, matrices).gradient > 1.9)
    local places = pl.tensor{0, 1, 3, 4}
    local curves = pl.map(function(y) return pl.cubic_spline(pl.tensor{0.5, 2, 3.5}, places, y) end, stream:normal(6, 4))
    assert.are.same({6, 3}, curves.shape)
  end)
end)
