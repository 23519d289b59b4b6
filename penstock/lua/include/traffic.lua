-- What went on at a route, by minutes: for whoever looks on, and for the budget of retries.
-- include: clock, number, learn
local LOOKED_AT = 180  -- seconds a minute's counts are kept

local function traffic_key(route, minute)
  return KEY.traffic .. route .. ':' .. whole(minute)
end

-- In turn: what (admitted, again, finished, tokens, "first <class>"), and by how much.
local function count_traffic(route, now, ...)
  local key = traffic_key(route, math.floor(now / 60))
  local counts = { ... }
  for i = 1, #counts, 2 do
    local first = redis.call('HINCRBY', key, counts[i], whole(counts[i + 1])) == counts[i + 1]
    if first then redis.call('EXPIRE', key, LOOKED_AT) end
  end
end

-- First attempts a second, in the last minute: this one's, and what is left of the one before.
local function first_attempts(route, now)
  local this, sum = math.floor(now / 60), 0
  for ago, share in pairs({ [0] = 1, [1] = 1 - now % 60 / 60 }) do
    local f = redis.call('HMGET', traffic_key(route, this - ago), 'admitted', 'again')
    sum = sum + share * (tonumber(f[1] or 0) - tonumber(f[2] or 0))
  end
  return sum / 60
end

-- A time to the first token as its class, of milliseconds: see size_class.
local function first_class(seconds)
  return 'first ' .. size_class(seconds * 1000)
end
