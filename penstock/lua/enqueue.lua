#!lua
-- Accepts a job: writes its record, queues or schedules it, emits `queued`.
-- Refused whole when Redis is at its memory limit (no allow-oom flag): nothing is written then.
-- include: clock, emit, place
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 tenant  3 route  4 "1" if the producer's own settings know the route
--       5 priority (0..9, 9 first)  6 idempotency key or ""  7 digest of the request
--       8 delay in seconds  9 deadline: "", "+<seconds from now>" or seconds since the epoch
--       10.. the record's other fields, name and value in turn
-- reply {"queued" | "scheduled", id}      accepted
--       {"exists", id, state}             the idempotency key's job, or this very one, is there
--       {"conflict", id}                  the idempotency key's job has another request
--       {"unknown_route", name...}        with the routes there are

-- One step of priority is worth an hour of waiting. So a job of priority p starts before every job
-- of priority q < p that came up to (p - q) hours earlier, and none waits for later ones longer
-- than nine hours.
local AGEING = 3600

local id, tenant, route, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local idempotency_key, digest, delay, deadline = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]

if ARGV[4] ~= '1' and redis.call('EXISTS', KEY.gate .. route) == 0 then
  return {'unknown_route', unpack(redis.call('SMEMBERS', KEY.routes))}
end

local function existing(other)
  local fields = redis.call('HMGET', KEY.job .. other, 'digest', 'state')
  if not fields[1] then return nil end
  if fields[1] ~= digest then return {'conflict', other} end
  return {'exists', other, fields[2]}
end

local seen = existing(id)
if not seen and idempotency_key ~= '' then
  local holder = redis.call('GET', KEY.idem .. tenant .. ':' .. idempotency_key)
  seen = holder and existing(holder)
end
if seen then return seen end

local now = clock()
if string.sub(deadline, 1, 1) == '+' then deadline = stamp(now + tonumber(deadline)) end
local available_at = now + delay
local arrival = stamp(available_at - tonumber(priority) * AGEING)
local state = delay > 0 and 'scheduled' or 'queued'

if idempotency_key ~= '' then
  redis.call('SET', KEY.idem .. tenant .. ':' .. idempotency_key, id)
end
redis.call('HSET', KEYS[1], 'id', id, 'tenant', tenant, 'route', route, 'priority', priority,
  'idempotency_key', idempotency_key, 'digest', digest, 'state', state, 'created_at', stamp(now),
  'available_at', stamp(available_at), 'deadline', deadline, 'arrival', arrival, 'attempt', 0,
  'excused', 0, 'recoveries', 0, 'rings', 0, unpack(ARGV, 10))
redis.call('ZADD', KEY.jobs .. tenant, stamp(now), id)
redis.call('SADD', KEY.routes, route)
redis.call('SADD', KEY.tenants, tenant)
if deadline ~= '' then redis.call('ZADD', KEY.deadlines, deadline, id) end
if state == 'scheduled' then
  redis.call('ZADD', KEY.due, stamp(available_at), id)
else
  place(id, route, tenant, arrival)
end
emit(id, 0, 1, 'queued', now,
  '{"route":"' .. route .. '","tenant":"' .. tenant .. '","priority":' .. priority .. '}')
return {state, id}
