#!lua flags=allow-oom
-- The keeper's round: wakes due jobs, recovers lost ones, rings again, expires, brings back what others
-- could not read. Every worker runs it twice a second; it does nothing twice, so there is no leader to lose.
-- include: clock, data, record, conclude, restart, ring, streamed
--
-- KEYS  none
-- ARGV  1 lease in seconds  2 at most this many of each kind
--       3 the newest format of a record that this worker reads
-- reply {{name, count...}, {route, state...}}   names: due, rung, recovered, lost, cancelled,
--       expired, forgotten, returned; then each job that ended

local lease, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock()
local counts = { due = 0, rung = 0, recovered = 0, lost = 0, cancelled = 0, expired = 0,
  forgotten = 0, returned = 0 }

local function count(name) counts[name] = counts[name] + 1 end

local ended = {}
local function count_end(name, record, state)
  count(name)
  ended[#ended + 1], ended[#ended + 2] = record.route, state
end

local function past(key)
  return redis.call('ZRANGE', key, '-inf', stamp(now), 'BYSCORE', 'LIMIT', 0, most)
end

local function wake(id)
  redis.call('ZREM', KEY.due, id)
  local record = read_record(id)
  if not record or record.state ~= 'scheduled' then return end
  redis.call('HSET', KEY.job .. id, 'state', 'queued')
  queue_up(id, record, record.arrival, now)
  count('due')
end

local function bring_back(id)
  redis.call('ZREM', KEY.aside, id)
  local record = read_record(id)
  if not record or record.state ~= 'queued' then return end
  queue_up(id, record, front(record), now)
  count('returned')
end

-- An admitted job that nobody claims: its message was lost, or no worker is free. It is rung again
-- only if its last message is gone, so messages never pile up.
local function ring_again(id, record)
  local queue, packed = KEY.queue .. record.route, redis.call('HGET', KEY.gate .. record.route, 'ring')
  local ring = packed and { cmsgpack.unpack(packed) }  -- nil: only older workers serve this route
  if ring and not redis.call('LPOS', queue, message(ring, id, record.rings)) then
    record.rings = redis.call('HINCRBY', KEY.job .. id, 'rings', 1)
    redis.call('LPUSH', queue, message(ring, id, record.rings))
    count('rung')
  end
  redis.call('ZADD', KEY.held .. record.route, stamp(now + patience(record.rings - record.first_ring + 1)), id)
end

local function recover(id, record)
  local n = next_n(id, record.attempt)
  local used = streamed(id, record, n - 2)
  if record.cancel_reason then
    conclude(id, record, 'cancelled', n, now, cancelled_data(record.cancel_reason), used)
    return count_end('cancelled', record, 'cancelled')
  end
  if record.recoveries >= MAX_RECOVERIES then
    conclude(id, record, 'failed', n, now, cjson.encode({
      attempts = tonumber(record.attempt) - record.excused, error = { type = 'worker_lost', code = cjson.null,
        status = cjson.null, message = 'the job lost its worker ' .. record.recoveries + 1
          .. ' times; it may be what kills them' } }), used)
    return count_end('lost', record, 'failed')
  end
  record.recoveries = redis.call('HINCRBY', KEY.job .. id, 'recoveries', 1)
  redis.call('HINCRBY', KEY.job .. id, 'excused', 1)
  restart(id, record, now, 'worker_lost', 0, front(record), used)
  count('recovered')
end

local function look(id, route, recovers)
  local record = read_record(id)
  if record and record.state == 'admitted' then
    ring_again(id, record)
  elseif record and record.state == 'running' then
    if recovers then recover(id, record) end
  else
    redis.call('ZREM', KEY.held .. route, id)
  end
end

local function expire(id)
  redis.call('ZREM', KEY.deadlines, id)
  local record = read_record(id)
  if not record or record.state == 'running' or redis.call('HEXISTS', KEY.job .. id, 'final') == 1
  then return end
  conclude(id, record, 'expired', next_n(id, record.attempt), now, expired_data(record.deadline))
  count_end('expired', record, 'expired')
end

local function forget_delivery(member, tenant, id)
  if redis.call('EXISTS', KEY.delivery .. id) == 1 then return end
  redis.call('ZREM', KEY.retained, member)
  redis.call('ZREM', KEY.deliveries .. tenant, id)
  redis.call('SREM', KEY.reports .. string.match(id, '^[^-]+'), id)
end

local function forget(member)
  local tenant, id = string.match(member, '^(.*)/(.-)$')
  if string.find(id, '-', 1, true) then return forget_delivery(member, tenant, id) end
  if redis.call('EXISTS', KEY.job .. id) == 1 then return end  -- its last microseconds
  redis.call('ZREM', KEY.retained, member)
  redis.call('ZREM', KEY.jobs .. tenant, id)
  count('forgotten')
end

-- Nobody swept for half a lease: Redis was away, or every worker was. Leases ran out meanwhile
-- though their holders may be alive, so those get one more lease to come back.
local function may_recover()
  local memory = redis.call('HMGET', KEY.keeper, 'swept_at', 'recover_from')
  local recover_from = tonumber(memory[2] or nil) or 0
  if now - (tonumber(memory[1] or nil) or 0) > lease / 2 then recover_from = now + lease end
  redis.call('HSET', KEY.keeper, 'swept_at', stamp(now), 'recover_from', stamp(recover_from))
  return now >= recover_from
end

-- Tenants whose last job started behind all that wait have no lead: they would start there anyway.
local function forget_served(route)
  redis.call('ZREMRANGEBYSCORE', KEY.served .. route, '-inf', stamp(virtual_now(route)))
end

local recovers = may_recover()
for _, id in ipairs(past(KEY.due)) do wake(id) end
for _, id in ipairs(past(KEY.deadlines)) do expire(id) end
local readable = redis.call('ZRANGE', KEY.aside, ARGV[3] - 1, ARGV[3], 'BYSCORE', 'LIMIT', 0, most)
for _, id in ipairs(readable) do bring_back(id) end
for _, route in ipairs(redis.call('SMEMBERS', KEY.routes)) do
  for _, id in ipairs(past(KEY.held .. route)) do look(id, route, recovers) end
  forget_served(route)
end
for _, member in ipairs(past(KEY.retained)) do forget(member) end

local reply = {}
for name, value in pairs(counts) do
  reply[#reply + 1], reply[#reply + 2] = name, value
end
return {reply, ended}
