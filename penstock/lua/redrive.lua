#!lua
-- Runs a failed job again, by hand: a new feed, its attempts counted anew, attempt numbers go on.
-- include: clock, data, record, emit, conversation, tenant
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 a token that no other call has, without spaces
-- reply {"queued"}         also when the same call came before
--       {"refused", state}  it has not failed
--       {"unknown"}

local id = ARGV[1]
local record = read_record(id)
if not record then return {'unknown'} end
local redriven = redis.call('HGET', KEYS[1], 'redriven') or ''
if string.find(' ' .. redriven .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then return {'queued'} end
if record.state ~= 'failed' then return {'refused', record.state} end

local now, n = clock(), next_n(id, record.attempt)
redis.call('DEL', KEY.feed .. id)
redis.call('PERSIST', KEYS[1])
if record.idempotency_key ~= '' then
  redis.call('PERSIST', KEY.idem .. record.tenant .. ':' .. record.idempotency_key)
end
redis.call('ZREM', KEY.retained, record.tenant .. '/' .. id)
-- The old deadline is over or was in the way: whoever runs a job again wants an answer.
redis.call('HDEL', KEYS[1], 'final', 'finished_at', 'cancel_reason', 'deadline', 'recoveries')
redis.call('HSET', KEYS[1], 'state', 'queued', 'waiting_since', stamp(now),
  'excused', record.attempt, 'redriven', redriven .. ' ' .. ARGV[2])
if read_tenant(record.tenant).max_waiting > 0 then
  redis.call('SADD', KEY.unfinished .. record.tenant, id)
end
record.recoveries, record.deadline = 0, ''
if record.asked_route then  -- the fallback was for that time
  record.route = record.asked_route
  redis.call('HSET', KEYS[1], 'route', record.route)
  redis.call('HDEL', KEYS[1], 'asked_route', 'route_reason')
end
queue_up(id, record, record.arrival, now)
local priority = redis.call('HGET', KEYS[1], 'priority')
emit(id, record.attempt, n, 'queued', now, queued_data(record.route, record.tenant, priority))
return {'queued'}
