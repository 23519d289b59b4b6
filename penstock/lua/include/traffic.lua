-- What went on at a route, by minutes, for whoever looks on. Nothing is decided by it.
-- include: clock, learn
local LOOKED_AT = 180  -- seconds a minute's counts are kept

-- In turn: what (admitted, finished, tokens, "first <class>"), and by how much.
local function count_traffic(route, now, ...)
  local key = KEY.traffic .. route .. ':' .. string.format('%.0f', math.floor(now / 60))
  local counts = { ... }
  for i = 1, #counts, 2 do
    local first = redis.call('HINCRBY', key, counts[i], counts[i + 1]) == counts[i + 1]
    if first then redis.call('EXPIRE', key, LOOKED_AT) end
  end
end

-- A time to the first token as its class, of milliseconds: see size_class.
local function first_class(seconds)
  return 'first ' .. size_class(seconds * 1000)
end
