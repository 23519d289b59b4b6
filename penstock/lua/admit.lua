#!lua flags=allow-oom
-- The gate of a route: lets waiting jobs through while there is room, and rings a worker for each.
-- The only place that knows limits and order.
-- include: clock, ring
--
-- KEYS  1 gate:<route>  2 turns:<route>  3 held:<route>  4 queue of the route
--       5 served:<route>
-- ARGV  1 route  2 at most this many in this call
-- reply {"admitted", count}
--       {"unready"}    no worker of this route has ever started: the keeper will admit

local route, most = ARGV[1], tonumber(ARGV[2])
local limit = tonumber(redis.call('HGET', KEYS[1], 'concurrency') or nil)
local template = redis.call('HGET', KEY.dispatch, 'template')
if not limit or not template then return {'unready'} end

-- The tenant whose turn it is gives its first job; serving it moves its turn by one.
local function take()
  local turn = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if #turn == 0 then return nil end
  local tenant, virtual_time = turn[1], tonumber(turn[2])
  local backlog = KEY.backlog .. route .. ':' .. tenant
  local first = redis.call('ZPOPMIN', backlog)[1]
  if redis.call('EXISTS', backlog) == 0 then redis.call('ZREM', KEYS[2], tenant) end
  if not first then return take() end
  redis.call('ZADD', KEYS[2], 'XX', stamp(virtual_time + 1), tenant)
  redis.call('ZADD', KEYS[5], stamp(virtual_time + 1), tenant)
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', stamp(virtual_time))  -- these have no lead
  redis.call('HSET', KEYS[1], 'virtual_time', stamp(virtual_time))
  return first
end

-- The next suspect, unless the last one is still under way.
local function suspect()
  local last = redis.call('HGET', KEYS[1], 'suspect')
  if last and redis.call('ZSCORE', KEYS[3], last) then return nil end
  local first = redis.call('ZPOPMIN', KEY.suspects .. route)[1]
  if first then redis.call('HSET', KEYS[1], 'suspect', first) end
  return first
end

local function admit(job, now)
  local record = KEY.job .. job
  if redis.call('HGET', record, 'state') ~= 'queued' then return 0 end
  local rings = redis.call('HINCRBY', record, 'rings', 1)
  redis.call('HSET', record, 'state', 'admitted', 'admitted_at', stamp(now),
    'first_ring', rings)
  redis.call('ZADD', KEYS[3], stamp(now + patience(1)), job)
  redis.call('LPUSH', KEYS[4], message(template, job, route, rings))
  return 1
end

local now, admitted = clock(), 0
local room = math.min(limit - redis.call('ZCARD', KEYS[3]), most)
local first = room > 0 and suspect()
if first then admitted = admit(first, now) end
while admitted < room do
  local job = take()
  if not job then break end
  admitted = admitted + admit(job, now)
end
return {'admitted', admitted}
