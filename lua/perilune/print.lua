-- How tensors look: numbers whole, small tensors whole, of large ones the corners; then dtype and shape.
local edge = 3 -- entries shown at each end of a long axis

local function one(x)
  if type(x) == "boolean" then return x and "true" or "false" end
  if x ~= x then return "nan" end
  if x == math.huge then return "inf" elseif x == -math.huge then return "-inf" end
  if x == math.floor(x) and math.abs(x) < 1e15 then return ("%d"):format(x) end
  return ("%.6g"):format(x)
end

local function body(t, index, axis, cells)
  local n = t.shape[axis]
  local shown = {}
  for i = 1, n do
    if n > 2*edge + 2 and i == edge + 1 then shown[#shown + 1] = false end
    if n <= 2*edge + 2 or i <= edge or i > n - edge then
      index[axis] = i
      shown[#shown + 1] = axis == t.rank and one(t:item(unpack(index, 1, axis))) or body(t, index, axis + 1, cells)
    end
  end
  if axis == t.rank then
    for _, cell in ipairs(shown) do
      if cell then cells.width = math.max(cells.width, #cell) end
    end
  end
  return shown
end

local function lines(node, depth, rank, width, pad)
  local parts = {}
  if depth == rank then
    for k, cell in ipairs(node) do parts[k] = cell and (" "):rep(width - #cell) .. cell or "..." end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  for k, child in ipairs(node) do parts[k] = child and lines(child, depth + 1, rank, width, pad .. " ") or "..." end
  return "{" .. table.concat(parts, (",\n"):rep(rank - depth > 1 and 1 or 1) .. pad .. " ") .. "}"
end

return function(t)
  local shape = t.shape
  if t.rank == 0 then
    local x = t:item()
    local text = type(x) == "number" and x == x and math.abs(x) ~= math.huge and x ~= math.floor(x) and ("%.15g"):format(x) or one(x)
    return t.dtype == "f64" and text or ("%s  (%s)"):format(text, t.dtype)
  end
  local label = ("%s {%s}"):format(t.dtype, table.concat(shape, ", "))
  if t.count == 0 then return "{}\n" .. label end
  local cells = {width = 0}
  local nested = body(t, {}, 1, cells)
  return lines(nested, 1, t.rank, cells.width, "") .. "\n" .. label
end
