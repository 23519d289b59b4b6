#!lua flags=allow-oom
-- The gate of a route: lets waiting jobs through while every limit has room, in fair order, and
-- rings a worker for each. The only place that knows limits and order.
--
-- Order between tenants is start-time fair queueing over tokens: a tenant's turn stands at the
-- virtual time at which its next job starts, and serving it moves the turn by what such jobs use on
-- average over the tenant's weight. All checks of a job come before its first write.
-- include: clock, number, ring, gate, tenant, window, budget, place, traffic, expect
--
-- KEYS  1 gate:<route>  2 turns:<route>  3 held:<route>  4 queue of the route
--       5 served:<route>  6 parked:<route>
-- ARGV  1 route  2 at most this many in this call
-- reply {"admitted", count, wait, in use, allowed, paused for, breaker}
--           wait: seconds until time alone lets the next one through, "" where it takes a job's
--           end, or nobody waits; breaker: "closed", "open" or "half open"
--       {"unready"}    no worker of this route has ever started: the keeper will admit

local route, most = ARGV[1], tonumber(ARGV[2])
local gate = read_gate(route)
local ring = read_ring()
if not gate or not ring then return {'unready'} end

local now, in_use = clock(), redis.call('ZCARD', KEYS[3])
local now_text = stamp(now)
local allowed = allowed_concurrency(gate, now)
local in_window = gate.tokens_per_minute and window_total(KEY.window .. route, now)
local was_metered = gate.requests_paid + gate.tokens_paid > 0
local first_attempts, tenants = 0, {}
local function tenant_of(name)
  tenants[name] = tenants[name] or read_tenant(name)
  return tenants[name]
end

-- Seconds the route's limits ask to wait for a job.
local function route_wait(expected)
  local tokens = expected.tokens
  return math.max(in_window and window_wait(in_window, tokens, gate.tokens_per_minute) or 0,
    meter_wait(gate.requests, gate.requests_paid, 1, now),
    meter_wait(gate.tokens, gate.tokens_paid, tokens, now))
end

-- The same, of a tenant's tokens.
local function tenant_tokens_wait(name, limits, tokens)
  if limits.tokens_per_minute == 0 then return 0 end
  limits.in_window = limits.in_window or window_total(KEY.tenantwindow .. name, now)
  return math.max(window_wait(limits.in_window, tokens, limits.tokens_per_minute),
    meter_wait(limits.tokens, limits.tokens_paid, tokens, now))
end

-- What a job of a tenant with a budget reserves.
local function cost_of(expected)
  return expected_usd(gate, expected.prompt, expected.output, expected.tier)
end

-- When a tenant's own limits let its next job through; nil: now.
local function blocked_until(name, expected)
  local limits = tenant_of(name)
  if not is_limited(limits) then return nil end
  if limits.concurrency > 0 and redis.call('SCARD', KEY.running .. name) >= limits.concurrency then
    return math.huge
  end
  local wait = math.max(meter_wait(limits.requests, limits.requests_paid, 1, now),
    tenant_tokens_wait(name, limits, expected.tokens))
  if wait > 0 then return now + wait end
  if not has_budget(limits) then return nil end
  return budget_until(limits, read_spent(name, now), cost_of(expected), now)
end

local function park(name, turn, until_time)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZADD', KEYS[5], stamp(turn), name)
  redis.call('ZADD', KEYS[6], until_time == math.huge and '+inf' or stamp(until_time), name)
end

-- Turns that one call looks at in vain, or wakes, at most: it keeps everybody else waiting. Then it
-- asks to be called again at once.
local LOOKED_AT, AT_ONCE = 200, 0.001

local function unpark()
  if redis.call('EXISTS', KEYS[6]) == 0 then return end
  local due = redis.call('ZRANGE', KEYS[6], '-inf', now_text, 'BYSCORE', 'LIMIT', 0, LOOKED_AT)
  for _, name in ipairs(due) do
    redis.call('ZREM', KEYS[6], name)
    join_turns(route, name)
  end
end

local function pay(job, name, expected)
  local tokens = expected.tokens
  if in_window then
    in_window = in_window + tokens
    window_add(KEY.window .. route, now, tokens, now)
  end
  gate.requests_paid = meter_pay(gate.requests, gate.requests_paid, 1, now)
  gate.tokens_paid = meter_pay(gate.tokens, gate.tokens_paid, tokens, now)
  local limits = tenant_of(name)
  if not is_limited(limits) then return end
  if limits.tokens_per_minute > 0 then
    limits.in_window = limits.in_window + tokens
    window_add(KEY.tenantwindow .. name, now, tokens, now)
  end
  limits.requests_paid = meter_pay(limits.requests, limits.requests_paid, 1, now)
  limits.tokens_paid = meter_pay(limits.tokens, limits.tokens_paid, tokens, now)
  redis.call('HSET', KEY.tenant .. name, 'requests_paid', stamp(limits.requests_paid),
    'tokens_paid', stamp(limits.tokens_paid))
  if has_budget(limits) then
    local usd = cost_of(expected)
    spend(name, usd, 0, now, now)
    redis.call('HSET', KEY.job .. job, 'reserved_usd', money(usd))
  end
end

local function admit(job, name, expected)
  local record, rings = KEY.job .. job, whole(expected.rings + 1)
  redis.call('HSET', record, 'state', 'admitted', 'admitted_at', now_text, 'rings', rings,
    'first_ring', rings, 'reserved', whole(expected.tokens), 'charged', whole(expected.charge))
  if expected.tier then
    redis.call('HSET', record, 'tier', expected.tier.name, 'tier_reason', expected.tier_reason)
  elseif expected.tier_before then  -- on a route that has tiers; this one's upstream may know none
    redis.call('HDEL', record, 'tier', 'tier_reason')
  end
  if expected.is_guest then redis.call('SREM', KEY.guests .. route, job) end
  redis.call('ZADD', KEYS[3], whole(now + patience(1)), job)
  redis.call('SADD', KEY.running .. name, job)
  pay(job, name, expected)
  in_use = in_use + 1
  if expected.rings == 0 then first_attempts = first_attempts + 1 end
  if gate.open_until then redis.call('HSET', KEYS[1], 'probe', job) end
  redis.call('LPUSH', KEYS[4], message(ring, job, route, rings))
end

local function move_turn(name, turn, charge, waits)
  local finish = stamp(turn + charge / tenant_of(name).weight)
  gate.virtual_time = math.max(gate.virtual_time, turn)
  if waits then return redis.call('ZADD', KEYS[2], finish, name) end
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZADD', KEYS[5], finish, name)
end

-- Whether a job could not be answered before its deadline, were it as quick as the quickest.
local function is_too_late(expected)
  return expected.deadline and now + gate.quickest > expected.deadline
end

local EXPIRED = 0.9

-- The next sweep ends it: all that takes would make this script twice as long.
local function expire(job, line)
  redis.call('ZREM', line, job)
  redis.call('ZADD', KEY.deadlines, now_text, job)
  gate.quickest = gate.quickest * EXPIRED  -- else nothing might ever be tried, and learned, again
  redis.call('HSET', KEYS[1], 'quickest', stamp(gate.quickest))
end

-- Seconds until a tenant that is at its own limit may have room; nil where that takes a job's end.
local function parked_wait()
  local first = redis.call('ZRANGE', KEYS[6], '0', '0', 'WITHSCORES')
  local due = tonumber(first[2] or math.huge)
  return due < math.huge and math.max(AT_ONCE, due - now) or nil
end

-- Lets the first job of the tenant whose turn it is through. Returns "admitted", "again" (the turn
-- was no use, look at the next) or "done", and with that the seconds to wait, where time will help.
local function serve()
  local first = redis.call('ZRANGE', KEYS[2], '0', '0', 'WITHSCORES')
  if #first == 0 then return 'done', parked_wait() end
  local name, turn = first[1], tonumber(first[2])
  local backlog = KEY.backlog .. route .. ':' .. name
  local jobs = redis.call('ZRANGE', backlog, '0', '1')
  if #jobs == 0 then
    redis.call('ZREM', KEYS[2], name)
    return 'again'
  end
  local expected = expect(jobs[1], gate, now)
  if is_too_late(expected) then
    expire(jobs[1], backlog)
    return 'again'
  end
  local until_time = blocked_until(name, expected)
  if until_time then
    park(name, turn, until_time)
    return 'again'
  end
  local wait = route_wait(expected)
  if wait > 0 then return 'done', wait end
  redis.call('ZREM', backlog, jobs[1])
  admit(jobs[1], name, expected)
  move_turn(name, turn, expected.charge, #jobs > 1)
  return 'admitted'
end

-- The next suspect, unless the last one is still under way. It pays, but takes nobody's turn. Returns
-- the seconds for which nobody else may pass, or it never would; nil where it holds up nobody.
local LAST_SUSPECT = '15'  -- of those that one call looks at
local function serve_suspect()
  if gate.suspect and redis.call('ZSCORE', KEYS[3], gate.suspect) then return end
  for _, job in ipairs(redis.call('ZRANGE', KEY.suspects .. route, '0', LAST_SUSPECT)) do
    local name, expected = redis.call('HGET', KEY.job .. job, 'tenant'), expect(job, gate, now)
    expected.charge = 0
    if is_too_late(expected) then
      expire(job, KEY.suspects .. route)
    elseif blocked_until(name, expected) then
      redis.call('ZADD', KEY.suspects .. route, now_text, job)  -- behind those that may run
    else
      local wait = route_wait(expected)
      if wait > 0 then return wait end
      redis.call('ZREM', KEY.suspects .. route, job)
      redis.call('HSET', KEYS[1], 'suspect', job)
      return admit(job, name, expected)
    end
  end
end

-- How many may pass at most, and the seconds until that may change by itself. What has run since before
-- the breaker opened may take all the places there are: then the probe waits for one.
local function room()
  if gate.paused_until > now then return 0, gate.paused_until - now end
  if not gate.open_until then return allowed - in_use end
  if gate.open_until > now then return 0, gate.open_until - now end
  local probing = gate.probe and redis.call('ZSCORE', KEYS[3], gate.probe)
  return probing and 0 or math.min(1, gate.concurrency - in_use)
end

-- What this call has changed. The rate of first attempts, of the last ten seconds or so, is what
-- retries may be a share of.
local function remember(admitted)
  local fading = math.exp(-(now - gate.first_at) / FIRST_MEMORY)
  redis.call('HSET', KEYS[1], 'virtual_time', stamp(gate.virtual_time), 'first_at', now_text,
    'first_rate', stamp(gate.first_rate * fading + first_attempts / FIRST_MEMORY))
  if was_metered or gate.requests.interval + gate.tokens.interval > 0 then  -- a limit that went is forgotten
    redis.call('HSET', KEYS[1], 'requests_paid', stamp(gate.requests_paid),
      'tokens_paid', stamp(gate.tokens_paid))
  end
  count_traffic(route, now, 'admitted', admitted)
end

unpark()
local free, wait = room()
free = math.min(free, most)
local before = in_use
local held_up = free > 0 and serve_suspect()
if held_up then free, wait = 0, held_up end
local result, vain = 'admitted', 0
while result ~= 'done' and in_use - before < free do
  result, wait = serve()
  if result == 'again' then vain = vain + 1 end
  if vain == LOOKED_AT then result, wait = 'done', AT_ONCE end
end
local admitted = in_use - before
if admitted > 0 then remember(admitted) end
return {'admitted', admitted, wait and stamp(wait) or '', in_use, allowed,
  stamp(math.max(0, gate.paused_until - now)), breaker_of(gate, now)}
