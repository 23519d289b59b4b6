-- The tokens that a route let through in the last minute, in half seconds: what a provider counts in
-- a sliding window. The meter beside it spreads them over the minute; this is never exceeded.
-- include: clock
local STEP, WINDOW = 0.5, 60

-- The sum, with every half second that is not wholly past.
local function window_total(route, now)
  local key, total = KEY.window .. route, 0
  local steps = redis.call('HGETALL', key)
  for i = 1, #steps, 2 do
    if (tonumber(steps[i]) + 1) * STEP <= now - WINDOW then
      redis.call('HDEL', key, steps[i])
    else
      total = total + tonumber(steps[i + 1])
    end
  end
  return total
end

-- at: when they were let through. by: tokens, negative where fewer were used than expected.
local function window_add(route, at, by, now)
  local step = math.floor(at / STEP)
  if (step + 1) * STEP <= now - WINDOW then return end
  redis.call('HINCRBY', KEY.window .. route, string.format('%.0f', step), string.format('%.0f', by))
end
