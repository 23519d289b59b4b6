-- The tokens that a route let through in the last minute, in half seconds: what a provider counts in
-- a sliding window. The meter beside it spreads them over the minute; this is never exceeded.
-- The sum is kept beside the half seconds, and what leaves the minute is taken off it.
-- include: clock
local STEP, WINDOW = 0.5, 60
local STEPS = WINDOW / STEP

-- The first half second that is not wholly past.
local function first_step(now)
  return math.floor((now - WINDOW) / STEP)
end

-- Tokens of every half second that is not wholly past.
local function window_total(route, now)
  local key, first = KEY.window .. route, first_step(now)
  local f = redis.call('HMGET', key, 'from', 'sum')
  local from, sum = tonumber(f[1] or first), tonumber(f[2] or 0)
  if from >= first then return sum end
  if first - from > STEPS then  -- nobody looked for a minute
    redis.call('DEL', key)
    return 0
  end
  for step = from, first - 1 do
    local past = redis.call('HGET', key, step)
    if past then
      redis.call('HDEL', key, step)
      sum = sum - tonumber(past)
    end
  end
  redis.call('HSET', key, 'from', first, 'sum', sum)
  return sum
end

-- at: when they were let through. by: tokens, negative where fewer were used than expected.
local function window_add(route, at, by, now)
  local key, step = KEY.window .. route, math.floor(at / STEP)
  if step < first_step(now) then return end
  local whole = string.format('%.0f', by)
  redis.call('HSETNX', key, 'from', first_step(now))
  redis.call('HINCRBY', key, step, whole)
  redis.call('HINCRBY', key, 'sum', whole)
end
