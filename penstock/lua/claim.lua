#!lua flags=allow-oom
-- A worker takes an admitted job: next attempt, lease, `started`.
-- include: clock, data, record, report, conclude
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 holder: a token that no other claim uses  3 lease in seconds
--       4 the newest format of a record that the worker reads; it reads the one before, too
-- reply {"claimed", attempt, field, value...}   the whole record
--       {"refused", state, attempt, route, tenant}   admitted no longer: drop the message
--       {"ended", "expired", attempt, route, tenant}   its deadline is over; it ended instead
--       {"unreadable", state, attempt, route, tenant, format}   it was written by another version:
--                               it waits, in nobody's way, for a worker that reads it
--       {"refused", "unknown"}

local id, holder, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local record = read_record(id)
if not record then return {'refused', 'unknown'} end

local now = clock()

local function refused(kind, state)
  return {kind, state, record.attempt, record.route, record.tenant}
end

local function claimed(attempt, now)
  redis.call('ZADD', KEY.held .. record.route, stamp(now + lease), id)
  return {'claimed', attempt, unpack(redis.call('HGETALL', KEYS[1]))}
end

-- The place at the gate is given up, or such jobs would take all there are. The sweep of a worker that
-- reads the format brings it back to the front.
local function put_aside(format)
  settle(id, record, now)
  redis.call('ZREM', KEY.held .. record.route, id)
  if record.asked_route then redis.call('SADD', KEY.guests .. record.route, id) end
  redis.call('HSET', KEYS[1], 'state', 'queued')
  redis.call('ZADD', KEY.aside, format, id)
  return {'unreadable', 'queued', record.attempt, record.route, record.tenant, tostring(format)}
end

if record.state == 'running' and redis.call('HGET', KEYS[1], 'holder') == holder then
  return claimed(tonumber(record.attempt), now)  -- the same claim, sent again
end
if record.state ~= 'admitted' then return refused('refused', record.state) end

if record.deadline ~= '' and tonumber(record.deadline) <= now then
  conclude(id, record, 'expired', next_n(id, record.attempt), now, expired_data(record.deadline))
  return refused('ended', 'expired')
end

local format, reads = tonumber(redis.call('HGET', KEYS[1], 'version') or 1), tonumber(ARGV[4])
if format > reads or format < reads - 1 then return put_aside(format) end

local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'running', 'holder', holder, 'started_at', stamp(now))
redis.call('ZREM', KEY.deadlines, id)
local model = not record.asked_route and redis.call('HGET', KEYS[1], 'model')
  or redis.call('HGET', KEY.gate .. record.route, 'model') or ''  -- a fallback has its own models
local event = emit(id, attempt, 1, 'started', now,
  cjson.encode({ attempt = attempt, route = record.route, model = model }))
local endpoint = read_endpoint(id, record)
if endpoint then
  redis.call('HSET', KEYS[1], 'reports', endpoint.events)
  report(id, record, attempt, 1, 'started', now, event)
end
return claimed(attempt, now)
