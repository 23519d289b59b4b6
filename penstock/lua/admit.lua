#!lua flags=allow-oom
-- The gate of a route: lets waiting jobs through while every limit has room, in fair order, and
-- rings a worker for each. The only place that knows limits and order.
--
-- Order between tenants is start-time fair queueing over tokens: a tenant's turn stands at the
-- virtual time at which its next job starts, and serving it moves the turn by what such jobs use on
-- average over the tenant's weight. All checks of a job come before its first write.
-- include: clock, number, ring, gate, route_limits, limited_tenants, traffic, expect
--
-- KEYS  none; each costs more to hand over than to put together
-- ARGV  1 route  2 at most this many in this call
-- reply {"admitted", count, wait, in use, allowed, paused for, breaker}
--           wait: seconds until time alone lets the next one through, "" where it takes a job's
--           end, or nobody waits; breaker: "closed", "open" or "half open"
--       {"unready"}    no worker of this route has ever started: the keeper will admit

local route, most = ARGV[1], tonumber(ARGV[2])
local gate = read_gate(route)
if not gate or not gate.ring then return {'unready'} end

local turns, held = KEY.turns .. route, KEY.held .. route
local now, in_use = clock(), redis.call('ZCARD', held)
local now_text = stamp(now)
local ring = { cmsgpack.unpack(gate.ring) }
local allowed = allowed_concurrency(gate, now)
-- A limit that went is to be forgotten.
local is_metered = gate.requests_paid + gate.tokens_paid + gate.requests.interval + gate.tokens.interval > 0
local route_limits = is_metered and open_route_limits(route, gate, now)
local again = 0  -- how many pass that have passed before

-- Seldom are there tenants with limits, parked tenants or suspects: one question for all.
local is_plain = redis.call('EXISTS', KEY.limits, KEY.parked .. route, KEY.suspects .. route) == 0
local tenants = not is_plain and open_limited_tenants(route, gate, now)

-- Turns that one call looks at in vain, or wakes, at most: it keeps everybody else waiting. Then it
-- asks to be called again at once.
local LOOKED_AT, AT_ONCE = 200, 0.001

local function admit(job, name, expected)
  local record, rings = KEY.job .. job, whole(expected.rings + 1)
  redis.call('HSET', record, 'state', 'admitted', 'admitted_at', now_text, 'rings', rings,
    'reserved', whole(expected.tokens), 'charged', whole(expected.charge))
  if expected.rings > 0 then
    again = again + 1
    redis.call('HSET', record, 'first_ring', rings)
  end
  if expected.tier then
    redis.call('HSET', record, 'tier', expected.tier.name, 'tier_reason', expected.tier_reason)
  elseif expected.tier_before then  -- on a route that has tiers; this one's upstream may know none
    redis.call('HDEL', record, 'tier', 'tier_reason')
  end
  if expected.is_guest then redis.call('SREM', KEY.guests .. route, job) end
  redis.call('ZADD', held, whole(now + FIRST_PATIENCE), job)
  redis.call('SADD', KEY.running .. name, job)
  if route_limits then route_limits.pay(expected.tokens) end
  if tenants then tenants.pay(job, name, expected) end
  in_use = in_use + 1
  if gate.open_until then redis.call('HSET', gate.key, 'probe', job) end
  redis.call('LPUSH', KEY.queue .. route, message(ring, job, rings))
end

local function move_turn(name, turn, charge, waits)
  local finish = stamp(turn + charge / (tenants and tenants.weight(name) or 1))
  gate.virtual_time = math.max(gate.virtual_time, turn)
  if waits then return redis.call('ZADD', turns, finish, name) end
  redis.call('ZREM', turns, name)
  redis.call('ZADD', KEY.served .. route, finish, name)
end

local EXPIRED = 0.9

-- Takes a job out of its line that could not be answered before its deadline, were it as quick as the
-- quickest. The next sweep ends it: all that takes would make this script twice as long.
local function expire(job, line, deadline)
  if not deadline or now + gate.quickest <= deadline then return false end
  redis.call('ZREM', line, job)
  redis.call('ZADD', KEY.deadlines, now_text, job)
  gate.quickest = gate.quickest * EXPIRED  -- else nothing might ever be tried, and learned, again
  redis.call('HSET', gate.key, 'quickest', stamp(gate.quickest))
  return true
end

-- Lets the first job of the tenant whose turn it is through. Returns "admitted", "again" (the turn
-- was no use, look at the next) or "done", and with that the seconds to wait, where time will help.
local function serve()
  local first = redis.call('ZRANGE', turns, '0', '0', 'WITHSCORES')
  if #first == 0 then return 'done', tenants and tenants.parked_wait() end
  local name, turn = first[1], tonumber(first[2])
  local backlog = KEY.backlog .. route .. ':' .. name
  local jobs = redis.call('ZRANGE', backlog, '0', '1')
  if #jobs == 0 then
    redis.call('ZREM', turns, name)
    return 'again'
  end
  local expected = expect(jobs[1], gate, now)
  if expire(jobs[1], backlog, expected.deadline) then return 'again' end
  local until_time = tenants and tenants.blocked_until(name, expected)
  if until_time then
    tenants.park(name, turn, until_time)
    return 'again'
  end
  local wait = route_limits and route_limits.wait_for(expected.tokens) or 0
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
  if gate.suspect and redis.call('ZSCORE', held, gate.suspect) then return end
  local line = KEY.suspects .. route
  for _, job in ipairs(redis.call('ZRANGE', line, '0', LAST_SUSPECT)) do
    local name, expected = redis.call('HGET', KEY.job .. job, 'tenant'), expect(job, gate, now)
    expected.charge = 0
    local is_over = expire(job, line, expected.deadline)
    if not is_over and tenants.blocked_until(name, expected) then
      redis.call('ZADD', line, now_text, job)  -- behind those that may run
    elseif not is_over then
      local wait = route_limits and route_limits.wait_for(expected.tokens) or 0
      if wait > 0 then return wait end
      redis.call('ZREM', line, job)
      redis.call('HSET', gate.key, 'suspect', job)
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
  local probing = gate.probe and redis.call('ZSCORE', held, gate.probe)
  return probing and 0 or math.min(1, gate.concurrency - in_use)
end

if tenants then tenants.unpark(LOOKED_AT) end
local free, wait = room()
free = math.min(free, most)
local before = in_use
local held_up = tenants and free > 0 and serve_suspect()
if held_up then free, wait = 0, held_up end
local result, vain = 'admitted', 0
while result ~= 'done' and in_use - before < free do
  result, wait = serve()
  if result == 'again' then vain = vain + 1 end
  if vain == LOOKED_AT then result, wait = 'done', AT_ONCE end
end
local admitted = in_use - before
if admitted > 0 then
  redis.call('HSET', gate.key, 'virtual_time', stamp(gate.virtual_time))
  if route_limits then route_limits.save() end
  count_traffic(route, now, 'admitted', admitted)
  if again > 0 then count_traffic(route, now, 'again', again) end
end
return {'admitted', admitted, wait and stamp(math.max(AT_ONCE, wait)) or '', in_use, allowed,
  gate.paused_until > now and stamp(gate.paused_until - now) or '0', breaker_of(gate, now)}
