-- Random variates: the methods of a stream that draw from distributions. Their parameters are numbers or tensors, which broadcast with
-- the sizes asked for; without sizes the result has the parameters' common shape. What is made of uniform and normal numbers by
-- arithmetic is differentiated through it (reparametrized); whole numbers have no derivative, and asking for one is an error.
-- Parameters out of their domain are an error as numbers and make NaN as entries of tensors.
local core = require "perilune.core"
local check = require "perilune.domain"

local function is_size(x) return type(x) == "number" and x >= 0 and x == math.floor(x) and x < 2^31 end

local function shape_text(shape) return "{" .. table.concat(shape, ", ") .. "}" end

-- The shape that both broadcast to, nil where they do not.
local function broadcast(a, b)
  local shape = {}
  for k = 0, math.max(#a, #b) - 1 do
    local m, n = a[#a - k] or 1, b[#b - k] or 1
    if m ~= n and m ~= 1 and n ~= 1 then return nil end
    table.insert(shape, 1, m == 1 and n or m)
  end
  return shape
end

local function fail(what, text, ...) core.fail(("rng:%s: %s"):format(what, text:format(...))) end

-- Sizes and the table of options from a method's last arguments: n, m, {...} or {n, m, ...}.
local function sizes(what, names, ...)
  local n, o = select("#", ...), {}
  local last, list = n > 0 and select(n, ...) or nil, {...}
  if type(last) == "table" and not getmetatable(last) then
    o, list[n] = last, nil
    if n == 1 and #last > 0 then list = {unpack(last)} end
  end
  for key in pairs(o) do
    if type(key) == "string" and not names[key] then
      local all = {}
      for name in pairs(names) do all[#all + 1] = name end
      table.sort(all)
      core.fail(("rng:%s has no option '%s'; it has %s"):format(what, key, #all > 0 and table.concat(all, ", ") or "none"))
    end
  end
  for k = 1, table.maxn(list) do
    if not is_size(list[k]) then fail(what, "%s is no size of an axis", tostring(list[k])) end
  end
  return list, o
end

local function count_of(what, shape)
  local count = 1
  for _, size in ipairs(shape) do count = count*size end
  if count >= 2^31 then fail(what, "%.0f numbers; a tensor has fewer than 2^31", count) end
  return count
end

return function(methods, draw_numbers, state_of)
  local Request = {}
  Request.__index = Request

  -- What a method was asked for, r.shape and r.count, and the parameters' values. parameters: {name, kind, value} or, of an option,
  -- {name, kind, nil, default}.
  local function request(self, what, parameters, ...)
    local names, values = {}, {}
    for _, p in ipairs(parameters) do names[p[1]] = p[4] ~= nil or nil end
    local r = setmetatable({stream = state_of(self, what)}, Request)
    local list, o = sizes(what, names, ...)
    r.shape = list
    for k, p in ipairs(parameters) do
      local name, value = p[1], p[3]
      if p[4] ~= nil then value = o[name] == nil and p[4] or o[name] end
      check("rng:" .. what, name, p[2], value)
      if core.is_tensor(value) then
        local shape = broadcast(value.shape, r.shape)
        if not shape or (#list > 0 and shape_text(shape) ~= shape_text(list)) then
          fail(what, "%s has shape %s, which does not broadcast to %s", name, shape_text(value.shape), shape_text(r.shape))
        end
        r.shape = shape
        if p[2] == "not_negative" then value = core.where(value:lt(0), 0/0, value) end
      end
      values[k] = value
    end
    r.count = count_of(what, r.shape)
    return r, unpack(values)
  end

  -- Numbers of an op of the engine, whose parameters are numbers or f64 tensors of the result's shape.
  function Request:draw(name, ...)
    local p = {...}
    for k, x in ipairs(p) do
      if core.is_tensor(x) then
        x = x:to("f64")
        p[k] = x.rank > 0 and shape_text(x.shape) ~= shape_text(self.shape) and core.broadcast_to(x, self.shape) or x
      end
    end
    return draw_numbers(self.stream, name, self.shape, self.count, unpack(p))
  end

  local function moved(x, scale, loc)
    if scale ~= 1 then x = x*scale end
    return loc ~= 0 and x + loc or x
  end

  --- Uniform numbers in (lo, hi), (0, 1) by default: rng:uniform(n, m), rng:uniform(n, {lo = -1, hi = 1}). In a traced function (compile,
  --- scan, map ...) each call, step and entry draws its own, the same as in a Lua loop.
  function methods:uniform(...)
    local n = ...
    if select("#", ...) == 1 and is_size(n) then return draw_numbers(state_of(self, "uniform"), "uniform", {n}, n, 0, 1) end -- most calls
    local r, lo, hi = request(self, "uniform", {{"lo", "number", nil, 0}, {"hi", "number", nil, 1}}, ...)
    if type(lo) == "number" and type(hi) == "number" then return r:draw("uniform", lo, hi) end
    return lo + (hi - lo)*r:draw("uniform", 0, 1)
  end

  --- Standard normal numbers: rng:normal(n, m); mean + std*rng:normal(n, m) has a mean and a standard deviation.
  function methods:normal(...)
    return request(self, "normal", {}, ...):draw("normal")
  end

  --- Whole numbers lo to hi, both included: rng:integers(lo, hi, n, m).
  function methods:integers(lo, hi, ...)
    local whole = type(lo) == "number" and type(hi) == "number" and lo == math.floor(lo) and hi == math.floor(hi)
    if not whole then core.fail "rng:integers(lo, hi, n ...): lo and hi are whole numbers" end
    return request(self, "integers", {}, ...):draw("integers", lo, hi)
  end

  --- Normal numbers given that they lie between lo and hi: rng:truncated_normal(lo, hi, n, m, {mean = 0, std = 1}), by the inverse of
  --- the distribution function, without loss in the tails; math.huge for no bound.
  function methods:truncated_normal(lo, hi, ...)
    local r, _, _, mean, std = request(self, "truncated_normal",
      {{"lo", "number", lo}, {"hi", "number", hi}, {"mean", "number", nil, 0}, {"std", "not_negative", nil, 1}}, ...)
    if type(lo) == "number" and type(hi) == "number" and lo > hi then fail("truncated_normal", "the range %g to %g is empty", lo, hi) end
    local u = r:draw("uniform", 0, 1)
    return moved(core.truncated_normal_quantile(u, (lo - mean)/std, (hi - mean)/std), std, mean)
  end

  --- exp(mu + sigma z), z normal: rng:lognormal(mu, sigma, n, m).
  function methods:lognormal(mu, sigma, ...)
    local r, _, spread = request(self, "lognormal", {{"mu", "number", mu}, {"sigma", "not_negative", sigma}}, ...)
    return core.exp(moved(r:draw("normal"), spread, mu))
  end

  --- Exponential numbers of a mean, the scale: rng:exponential(n, m, {scale = 1}).
  function methods:exponential(...)
    local r, scale = request(self, "exponential", {{"scale", "not_negative", nil, 1}}, ...)
    return core.log(r:draw("uniform", 0, 1))*(-scale)
  end

  --- Laplace's two-sided exponential numbers: rng:laplace(n, m, {loc = 0, scale = 1}).
  function methods:laplace(...)
    local r, loc, scale = request(self, "laplace", {{"loc", "number", nil, 0}, {"scale", "not_negative", nil, 1}}, ...)
    local u = r:draw("uniform", -1, 1)
    return moved(-core.sign(u)*core.log1p(-core.abs(u)), scale, loc)
  end

  --- Cauchy numbers: rng:cauchy(n, m, {loc = 0, scale = 1}).
  function methods:cauchy(...)
    local r, loc, scale = request(self, "cauchy", {{"loc", "number", nil, 0}, {"scale", "not_negative", nil, 1}}, ...)
    return moved(core.tan(r:draw("uniform", -math.pi/2, math.pi/2)), scale, loc)
  end

  --- Gamma numbers of a shape: rng:gamma(shape, n, m, {scale = 1}); their mean is shape*scale. The derivative in the shape is that of
  --- the quantile (implicit reparametrization).
  function methods:gamma(shape, ...)
    local r, a, scale = request(self, "gamma", {{"shape", "positive", shape}, {"scale", "not_negative", nil, 1}}, ...)
    return moved(core.exp(r:draw("loggamma", a)), scale, 0)
  end

  --- Beta numbers in (0, 1): rng:beta(a, b, n, m); their mean is a/(a + b).
  function methods:beta(a, b, ...)
    local r = request(self, "beta", {{"a", "positive", a}, {"b", "positive", b}}, ...)
    return core.sigmoid(r:draw("loggamma", a) - r:draw("loggamma", b))
  end

  --- Student's t numbers of df degrees of freedom: rng:student_t(df, n, m).
  function methods:student_t(df, ...)
    local r = request(self, "student_t", {{"df", "positive", df}}, ...)
    local half = df*0.5
    local log_half = core.is_tensor(half) and core.log(half) or math.log(half)
    return r:draw("normal")*core.exp((log_half - r:draw("loggamma", half))*0.5)
  end

  --- 1 with probability p, else 0, as f64: rng:bernoulli(p, n, m).
  function methods:bernoulli(p, ...)
    local r = request(self, "bernoulli", {{"p", "probability", p}}, ...)
    return r:draw("binomial", 1, p)
  end

  --- How many of n trials succeed, each with probability p, as f64: rng:binomial(n, p, sizes ...).
  function methods:binomial(n, p, ...)
    local r = request(self, "binomial", {{"n", "count", n}, {"p", "probability", p}}, ...)
    return r:draw("binomial", n, p)
  end

  --- Poisson counts of mean lambda, as f64: rng:poisson(lambda, n, m).
  function methods:poisson(lambda, ...)
    local r, mean = request(self, "poisson", {{"lambda", "not_negative", lambda}}, ...)
    return r:draw("poisson", mean)
  end

  local function check_weights(what, w, positive)
    if type(w) == "table" and not getmetatable(w) then w = core.tensor(w) end
    if not core.is_tensor(w) or w.rank == 0 then fail(what, "the weights are a tensor or a list, not a %s", core.is_tensor(w) and "single number" or type(w)) end
    return core.check_weights(w:to("f64"), {positive = positive})
  end

  --- Places 1 to k with probabilities in proportion to k weights, along the last axis of more of them:
  --- rng:categorical(weights, n, m); of logarithms of weights with {logits = true}.
  function methods:categorical(weights, ...)
    local s = state_of(self, "categorical")
    local shape, o = sizes("categorical", {logits = true}, ...)
    if o.logits then weights = core.softmax(core.is_tensor(weights) and weights or core.tensor(weights)) end
    local w = check_weights("categorical", weights, 1)
    local several, k = {}, w.shape[w.rank]
    for a = 1, w.rank - 1 do several[a] = w.shape[a] end
    if #shape == 0 then shape = several end
    local both = broadcast(several, shape)
    if not both or shape_text(both) ~= shape_text(shape) then
      fail("categorical", "weights of shape %s do not broadcast to %s of them", shape_text(w.shape), shape_text(shape))
    end
    local u = draw_numbers(s, "uniform", shape, count_of("categorical", shape), 0, 1)
    local below = core.cumsum(w, {axis = -1})
    below = below/core.gather(below, core.tensor({k}, {dtype = "i64"}), {axis = -1}) -- ends with 1
    if w.rank == 1 then return core.searchsorted(below, u, {right = true}) end
    return core.sum(core.cast(below:le(core.unsqueeze(u, -1)), "i64"), {axis = -1}) + 1
  end

  --- Normal vectors of a mean {d} and {covariance = C} or its Cholesky factor, {cholesky = L}: rng:multivariate_normal(mean, n, m,
  --- {covariance = C}) has shape {n, m, d}.
  function methods:multivariate_normal(mean, ...)
    local s, what = state_of(self, "multivariate_normal"), "multivariate_normal"
    local shape, o = sizes(what, {covariance = true, cholesky = true}, ...)
    if (o.covariance == nil) == (o.cholesky == nil) then fail(what, "give {covariance = C} or {cholesky = L}, one of them") end
    if not core.is_tensor(mean) then mean = core.tensor(mean) end
    local L = o.cholesky or core.cholesky(o.covariance)
    if not core.is_tensor(L) then L = core.tensor(L) end
    local d = mean.shape[mean.rank]
    if mean.rank == 0 or L.rank ~= 2 or L.shape[1] ~= d or L.shape[2] ~= d then
      fail(what, "a mean of shape %s and a matrix of shape %s; {..., d} and {d, d} are needed", shape_text(mean.shape), shape_text(L.shape))
    end
    if #shape == 0 then for a = 1, mean.rank - 1 do shape[a] = mean.shape[a] end end
    shape[#shape + 1] = d
    local both = broadcast(mean.shape, shape)
    if not both or shape_text(both) ~= shape_text(shape) then
      fail(what, "means of shape %s do not broadcast to %s", shape_text(mean.shape), shape_text(shape))
    end
    local z = draw_numbers(s, "normal", shape, count_of(what, shape))
    return mean + core.matmul(core.reshape(z, {-1, d}), core.tril(L).T):reshape(shape)
  end

  -- How many there are to choose from, and what is chosen at places.
  local function population(what, x)
    if is_size(x) then return x, function(places) return places end end
    if not core.is_tensor(x) or x.rank == 0 then
      fail(what, "a number of things or a tensor with a first axis is needed, not %s", core.is_tensor(x) and "a single number" or tostring(x))
    end
    return #x, function(places) return core.gather(x, places) end
  end

  --- The numbers 1 to n in random order, or a tensor's entries along its first axis: rng:permutation(n), rng:permutation(x).
  function methods:permutation(x)
    local s = state_of(self, "permutation")
    local n, at = population("permutation", x)
    return at(draw_numbers(s, "permutation", {n}, n))
  end

  --- k of the numbers 1 to n, or of a tensor's entries along its first axis: rng:choice(n, k), rng:choice(x, k, {replace = false}) for
  --- different ones, {weights = w} for probabilities in proportion to weights (without replacement, of those that are left).
  function methods:choice(x, k, ...)
    local s, what = state_of(self, "choice"), "choice"
    local n, at = population(what, x)
    local list, o = sizes(what, {replace = true, weights = true}, ...)
    if #list > 0 or not is_size(k) then fail(what, "how many is one whole number, 0 or above, not %s", tostring(#list > 0 and list[1] or k)) end
    if k > 0 and n == 0 then fail(what, "%d of nothing", k) end
    local replace = o.replace ~= false
    if not replace and k > n then fail(what, "%d different ones of %d; with replacement there may be more", k, n) end
    local w = o.weights ~= nil and check_weights(what, o.weights, replace and math.min(k, 1) or k)
    if w and (w.rank > 1 or #w ~= n) then fail(what, "weights of shape %s for %d things", shape_text(w.shape), n) end
    if replace then return at(w and self:categorical(w, k) or draw_numbers(s, "integers", {k}, k, 1, math.max(n, 1))) end
    -- the first k events of n Poisson processes, whose rates the weights are: P. Efraimidis, P. Spirakis, Information Processing
    -- Letters 97, 2006
    local u = draw_numbers(s, "uniform", {n}, n, 0, 1)
    local _, places = core.topk(w and -core.log(u)/w or u, {k = k, smallest = true})
    return at(places)
  end
end
