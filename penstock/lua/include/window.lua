-- The tokens that a route, or a tenant, let through in the last minute, in half seconds: what a provider
-- counts in a sliding window. The meter beside it spreads them over the minute; this is never exceeded.
-- The sum is kept beside the half seconds, and what leaves the minute is taken off it.
-- include: clock, number
local STEP, WINDOW = 0.5, 60
local STEPS = WINDOW / STEP

-- The first half second that is not wholly past.
local function first_step(now)
  return math.floor((now - WINDOW) / STEP)
end

-- Tokens of every half second that is not wholly past. looks_on: whoever asks may not write.
local function window_total(key, now, looks_on)
  local first = first_step(now)
  local f = redis.call('HMGET', key, 'from', 'sum')
  local from, sum = tonumber(f[1] or first), tonumber(f[2] or 0)
  if from >= first then return sum end
  if first - from > STEPS then  -- nobody looked for a minute
    if not looks_on then redis.call('DEL', key) end
    return 0
  end
  for step = from, first - 1 do
    local past = redis.call('HGET', key, step)
    if past then
      if not looks_on then redis.call('HDEL', key, step) end
      sum = sum - tonumber(past)
    end
  end
  if not looks_on then redis.call('HSET', key, 'from', first, 'sum', sum) end
  return sum
end

-- Seconds until so many more may pass, at the least. What is larger than all of the minute's tokens
-- passes when there were none.
local function window_wait(total, tokens, most)
  return total > 0 and total + tokens > most and STEP or 0
end

-- at: when they were let through. by: tokens, negative where fewer were used than expected.
local function window_add(key, at, by, now)
  local step = math.floor(at / STEP)
  if step < first_step(now) then return end
  if by < 0 and redis.call('HEXISTS', key, step) == 0 then return end  -- no limit was kept then
  local is_first = redis.call('HINCRBY', key, whole(step), whole(by)) == by
  redis.call('HINCRBY', key, 'sum', whole(by))
  if is_first then  -- of its half second
    redis.call('HSETNX', key, 'from', first_step(now))
    redis.call('EXPIRE', key, 2 * WINDOW)
  end
end
