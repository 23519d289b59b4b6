#!lua flags=allow-oom
-- The worker that took a delivery says what came of it.
-- include: clock, endpoint, end_delivery
--
-- KEYS  1 delivery:<id>
-- ARGV  1 id  2 claim (the fence)
--       3 "delivered" | "retry" | "failed": no retry is left, or can help | "gone": it said 410
--       4 of a retry: seconds until then  5 what is kept of this try (JSON)
-- reply {state}      also when the same call came before
--       {"stale"}    it was taken anew, or is gone

local id, verdict = ARGV[1], ARGV[3]
local f = redis.call('HMGET', KEYS[1], 'claims', 'state', 'tenant', 'url', 'settled')
if f[5] == ARGV[2] then return {f[2]} end
if f[1] ~= ARGV[2] or f[2] ~= 'waiting' then return {'stale'} end

local now, tenant = clock(), f[3]
local endpoint = endpoint_key(tenant, f[4])
local log = redis.call('HGET', KEYS[1], 'log')
redis.call('HSET', KEYS[1], 'settled', ARGV[2], 'log', (log and log .. '\n' or '') .. ARGV[5])
redis.call('HINCRBY', KEYS[1], 'tries', 1)

if verdict == 'delivered' then
  redis.call('DEL', endpoint)
  end_delivery(id, tenant, 'delivered', now)
  return {'delivered'}
end
endpoint_failed(endpoint)
if verdict == 'retry' then
  redis.call('ZADD', KEY.webhooks, stamp(now + tonumber(ARGV[4])), id)
  return {'waiting'}
end
if verdict == 'gone' then redis.call('HSET', endpoint, 'disabled', stamp(now)) end
local state = verdict == 'gone' and 'disabled' or 'failed'
end_delivery(id, tenant, state, now)
return {state}
