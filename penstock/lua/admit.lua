#!lua flags=allow-oom
-- The gate of a route: lets waiting jobs through while every limit has room, in fair order, and
-- rings a worker for each. The only place that knows limits and order.
--
-- Order between tenants is start-time fair queueing over tokens: a tenant's turn stands at the
-- virtual time at which its next job starts, and serving it moves the turn by what such jobs use on
-- average over the tenant's weight. All checks of a job come before its first write.
-- include: clock, number, ring, gate, tenant, route_limits, tenant_limits, traffic, expect
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
-- A limit that went is to be forgotten.
local is_metered = gate.requests_paid + gate.tokens_paid + gate.requests.interval + gate.tokens.interval > 0
local route_limits = is_metered and open_route_limits(route, gate, now)
local tenant_limits  -- where a tenant has asked that has any
local again, tenants = 0, {}  -- those that are no first attempt; tenants by name

-- Seldom are there tenants at their own limits, suspects, or tenants with limits: asked for at once.
local is_plain = redis.call('EXISTS', KEYS[6], KEY.suspects .. route, KEY.limits) == 0
local function tenant_of(name)
  if is_plain then return unlimited_tenant end
  tenants[name] = tenants[name] or read_tenant(name)
  return tenants[name]
end

-- Seconds the route's limits ask to wait for a job.
local function route_wait(expected)
  return route_limits and route_limits.wait_for(expected.tokens) or 0
end

-- When a tenant's own limits let its next job through; nil: now.
local function blocked_until(name, expected)
  local limits = tenant_of(name)
  if not limits.has_any then return nil end
  tenant_limits = tenant_limits or open_tenant_limits(gate, now)
  return tenant_limits.blocked_until(name, limits, expected)
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
  -- include: place
  local due = redis.call('ZRANGE', KEYS[6], '-inf', now_text, 'BYSCORE', 'LIMIT', 0, LOOKED_AT)
  for _, name in ipairs(due) do
    redis.call('ZREM', KEYS[6], name)
    join_turns(route, name)
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
  redis.call('ZADD', KEYS[3], whole(now + FIRST_PATIENCE), job)
  redis.call('SADD', KEY.running .. name, job)
  if route_limits then route_limits.pay(expected.tokens) end
  if tenant_of(name).has_any then tenant_limits.pay(job, name, tenant_of(name), expected) end
  in_use = in_use + 1
  if expected.rings > 0 then again = again + 1 end
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

-- What this call has changed.
local function remember(admitted)
  redis.call('HSET', KEYS[1], 'virtual_time', stamp(gate.virtual_time))
  if route_limits then route_limits.save() end
  count_traffic(route, now, 'admitted', admitted)
  if again > 0 then count_traffic(route, now, 'again', again) end
end

if not is_plain then unpark() end
local free, wait = room()
free = math.min(free, most)
local before = in_use
local held_up = not is_plain and free > 0 and serve_suspect()
if held_up then free, wait = 0, held_up end
local result, vain = 'admitted', 0
while result ~= 'done' and in_use - before < free do
  result, wait = serve()
  if result == 'again' then vain = vain + 1 end
  if vain == LOOKED_AT then result, wait = 'done', AT_ONCE end
end
local admitted = in_use - before
if admitted > 0 then remember(admitted) end
local paused = gate.paused_until > now and stamp(gate.paused_until - now) or '0'
return {'admitted', admitted, wait and stamp(wait) or '', in_use, allowed, paused, breaker_of(gate, now)}
