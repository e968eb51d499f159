-- pl.einsum: products and sums named by letters, as matrix products, diagonals and sums.
local core = require "perilune.core"

local function fail(text, ...) core.fail(("einsum: " .. text):format(...)) end

-- "ij,jk->ik" -> {"ij", "jk"}, "ik"; without an arrow, the result has the letters that occur once, in order.
local function parse(spec)
  local inputs, output = spec:gsub("%s", ""):match("^([%a,]*)%->(%a*)$")
  if not inputs then inputs = spec:gsub("%s", ""):match("^[%a,]*$") end
  if not inputs then fail("'%s' is not understood: letters for axes, commas between tensors, -> before the result's", spec) end
  local list, count = {}, {}
  for letters in (inputs .. ","):gmatch("(%a*),") do list[#list + 1] = letters end
  for letter in inputs:gmatch("%a") do count[letter] = (count[letter] or 0) + 1 end
  if not output then
    local once = {}
    for letter, n in pairs(count) do if n == 1 then once[#once + 1] = letter end end
    table.sort(once)
    output = table.concat(once)
  end
  local seen = {}
  for letter in output:gmatch("%a") do
    if not count[letter] then fail("the result's axis '%s' is none of the tensors'", letter) end
    if seen[letter] then fail("the result has axis '%s' twice", letter) end
    seen[letter] = true
  end
  return list, output
end

local function permuted(x, letters, order)
  if letters == order then return x end
  local axes = {}
  for k = 1, #order do axes[k] = letters:find(order:sub(k, k), 1, true) end
  return core.transpose(x, axes)
end

-- Sums over the letters that `keep` does not want.
local function summed(x, letters, keep)
  local axes, left = {}, {}
  for k = 1, #letters do
    local letter = letters:sub(k, k)
    if keep(letter) then left[#left + 1] = letter else axes[#axes + 1] = k end
  end
  if #axes == 0 then return x, letters end
  return core.sum(x, axes), table.concat(left)
end

-- A letter twice in one tensor is its diagonal.
local function diagonals(x, letters)
  for k = 1, #letters do
    local letter = letters:sub(k, k)
    local again = letters:find(letter, k + 1, true)
    if again then
      local rest = letters:sub(1, k - 1) .. letters:sub(k + 1, again - 1) .. letters:sub(again + 1)
      local axes = {}
      for a = 1, #letters do if a ~= k and a ~= again then axes[#axes + 1] = a end end
      axes[#axes + 1], axes[#axes + 2] = k, again
      return diagonals(core.diagonal(core.transpose(x, axes)), rest .. letter)
    end
  end
  return x, letters
end

local function product(sizes, letters)
  local n = 1
  for letter in letters:gmatch("%a") do n = n*sizes[letter] end
  return n
end

-- Two tensors: letters of both that are kept count along, the others of both are summed over.
local function contract(x, a, z, b, keep, sizes)
  x, a = summed(x, a, function(l) return keep(l) or b:find(l, 1, true) end)
  z, b = summed(z, b, function(l) return keep(l) or a:find(l, 1, true) end)
  local both, over, left, right = "", "", "", ""
  for l in a:gmatch("%a") do
    if not b:find(l, 1, true) then left = left .. l elseif keep(l) then both = both .. l else over = over .. l end
  end
  for l in b:gmatch("%a") do if not a:find(l, 1, true) then right = right .. l end end
  local n, m, q, k = product(sizes, both), product(sizes, left), product(sizes, right), product(sizes, over)
  x = permuted(x, a, both .. left .. over)
  z = permuted(z, b, both .. over .. right)
  local out
  if over == "" then
    out = x:reshape(n, m, 1)*z:reshape(n, 1, q)
  elseif left == "" and right == "" then
    out = core.sum(x:reshape(n, k)*z:reshape(n, k), 2)
  elseif both == "" then
    out = core.matmul(x:reshape(m, k), z:reshape(k, q))
  else
    out = core.matmul(x:reshape(n, m, k), z:reshape(n, k, q))
  end
  local letters, shape = both .. left .. right, {}
  for l in letters:gmatch("%a") do shape[#shape + 1] = sizes[l] end
  return core.reshape(out, shape), letters
end

--- Einstein's summation: pl.einsum("ij,jk->ik", A, B) is A B; a letter that the result lacks is summed over, one that a tensor has
--- twice takes its diagonal. Pairs are contracted from the left, by matrix products where there is something to sum over.
---@param spec string
---@return any
return function(spec, ...)
  if type(spec) ~= "string" then fail("the first argument is a text like \"ij,jk->ik\"") end
  local list, output = parse(spec)
  local tensors, sizes = {...}, {}
  if #tensors ~= #list or #list == 0 then fail("'%s' is about %d tensors, not %d", spec, #list, #tensors) end
  for k, letters in ipairs(list) do
    local x = tensors[k]
    if not core.is_tensor(x) then x = core.tensor(x) end
    if x.rank ~= #letters then fail("tensor %d has %d axes, '%s' names %d", k, x.rank, letters, #letters) end
    for a = 1, #letters do
      local letter, n = letters:sub(a, a), x.shape[a]
      if sizes[letter] and sizes[letter] ~= n then fail("axis '%s' has %d entries in one place, %d in another", letter, sizes[letter], n) end
      sizes[letter] = n
    end
    tensors[k], list[k] = diagonals(x, letters)
  end
  local x, letters = tensors[1], list[1]
  for k = 2, #tensors do
    local later = table.concat(list, "", k + 1) .. output
    x, letters = contract(x, letters, tensors[k], list[k], function(l) return later:find(l, 1, true) ~= nil end, sizes)
  end
  x, letters = summed(x, letters, function(l) return output:find(l, 1, true) ~= nil end)
  return permuted(x, letters, output)
end
