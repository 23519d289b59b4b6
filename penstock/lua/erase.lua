#!lua flags=allow-oom
-- Removes all that is kept of a job that has ended: request, answer and feed, and what of them is on
-- its way to an endpoint. What it used stays in its tenant's accounts.
-- include: clock, record
--
-- KEYS  1 job:<id>
-- ARGV  1 id
-- reply {"erased"}          also when there is no such job (any more)
--       {"refused", state}  it has not ended

local id = ARGV[1]
local record = read_record(id)
if not record then return {'erased'} end
if redis.call('HEXISTS', KEYS[1], 'final') == 0 then return {'refused', record.state} end

for _, delivery in ipairs(redis.call('SMEMBERS', KEY.reports .. id)) do
  redis.call('DEL', KEY.delivery .. delivery)
  redis.call('ZREM', KEY.webhooks, delivery)
  redis.call('ZREM', KEY.deliveries .. record.tenant, delivery)
  redis.call('ZREM', KEY.retained, record.tenant .. '/' .. delivery)
end
redis.call('DEL', KEYS[1], KEY.feed .. id, KEY.reports .. id)
if record.idempotency_key ~= '' then
  local key = KEY.idem .. record.tenant .. ':' .. record.idempotency_key
  if redis.call('GET', key) == id then redis.call('DEL', key) end
end
redis.call('ZREM', KEY.jobs .. record.tenant, id)
redis.call('ZREM', KEY.retained, record.tenant .. '/' .. id)
return {'erased'}
