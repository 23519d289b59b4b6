-- What an attempt's end says about its route's upstream, and what the gate makes of it.
-- include: clock, gate, traffic

-- Failures in a row, without an answer between them, that open the breaker; and how long it stays
-- open before one job may try: twice as long each time.
local BREAKING, OPEN, OPEN_MOST = 5, 5, 60

local function open_breaker(key, now)
  local times = redis.call('HINCRBY', key, 'opened', 1)
  local seconds = math.min(OPEN * 2 ^ (times - 1), OPEN_MOST)
  redis.call('HSET', key, 'open_until', stamp(now + seconds))
  redis.call('HDEL', key, 'probe', 'failures')
  return { 'opened', string.format('%.0f', seconds) }
end

local function fail(route, job, gate, now)
  local key = KEY.gate .. route
  local failures = redis.call('HINCRBY', key, 'failures', 1)
  if gate.open_until then  -- half open or open: only the probe's word counts
    return gate.probe == job and open_breaker(key, now) or nil
  end
  return failures >= BREAKING and open_breaker(key, now) or nil
end

local function succeed(route, job, gate)
  local key = KEY.gate .. route
  if gate.open_until then
    if gate.probe ~= job then return nil end  -- one that began before it broke says nothing of now
    redis.call('HDEL', key, 'open_until', 'probe', 'failures', 'opened')
    return { 'closed', '' }
  end
  redis.call('HDEL', key, 'failures')
end

-- Nothing is admitted for so long. Nil where a longer pause is on already.
local function pause(key, gate, retry_after, now)
  if now + retry_after <= gate.paused_until then return nil end
  redis.call('HSET', key, 'paused_until', stamp(now + retry_after))
  return { 'paused', string.format('%.3f', retry_after) }
end

-- Concurrency falls below what the upstream has just been serving: what was in use, without those it
-- refused. The first refusal of a volley makes the cut; each further one of a job that was admitted
-- before it says that one less was served.
local function cut(key, record, gate, now)
  if gate.cut_at and record.admitted_at <= gate.cut_at then
    redis.call('HSET', key, 'cut_from', math.max(1, gate.cut_from - 1))
    return nil
  end
  local in_use = math.min(redis.call('ZCARD', KEY.held .. record.route), allowed_concurrency(gate, now))
  gate.cut_at, gate.cut_from = now, math.max(1, in_use - 1)
  redis.call('HSET', key, 'cut_at', stamp(now), 'cut_from', gate.cut_from)
  return { 'slowed', tostring(allowed_concurrency(gate, now)) }
end

-- retry_after: seconds the upstream asks for, 0 where it does not say. A pause alone would end with a
-- rush into the same wall, so concurrency falls with it.
local function slow_down(record, gate, retry_after, now)
  local key = KEY.gate .. record.route
  local news = cut(key, record, gate, now) or {}
  local paused = retry_after > 0 and pause(key, gate, retry_after, now) or {}
  for _, each in ipairs(paused) do news[#news + 1] = each end
  return news
end

-- kind: "ok" it answered, "busy" it has no room, "broken" it failed, "down" it says that it cannot serve,
-- and not for how long: both; "" nothing is known.
-- Returns nil, or what changed and by how much, in turn, for the log. Call it while the job is held.
local function feed_back(job, record, kind, retry_after, now)
  local gate = kind ~= '' and read_gate(record.route)
  if not gate then return nil end
  if kind == 'ok' then return succeed(record.route, job, gate) end
  local is_probe = gate.open_until and gate.probe == job
  local news = kind == 'broken' and {} or slow_down(record, gate, retry_after, now)
  local opened = (kind ~= 'busy' or is_probe) and fail(record.route, job, gate, now) or {}
  for _, each in ipairs(opened) do news[#news + 1] = each end
  return news
end

-- Retries have a budget, so that they cannot drown an upstream that struggles: so many a second, and
-- a share of the rate of first attempts. Returns the seconds until the next one may start, and spends it.
local RETRIES, SHARE, AT_ONCE = 10, 0.2, 1
local function retry_wait(route, now)
  local key = KEY.gate .. route
  local paid = math.max(tonumber(redis.call('HGET', key, 'retries_paid') or 0), now)
  local rate = RETRIES + SHARE * first_attempts(route, now)
  redis.call('HSET', key, 'retries_paid', stamp(paid + 1 / rate))
  return math.max(0, paid - now - AT_ONCE)
end
