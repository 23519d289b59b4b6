-- Ends a delivery: it leaves the outbox, and is kept for those who look what became of it.
-- include: clock

-- Seconds: what failed is kept so long for a resend by hand; nothing is kept for longer.
local A_WEEK = 7 * 86400

local function end_delivery(id, tenant, state, now)
  local key = KEY.delivery .. id
  local ttl = A_WEEK
  if state == 'delivered' then
    ttl = math.min(tonumber(redis.call('HGET', key, 'ttl')), A_WEEK)
  end
  redis.call('HSET', key, 'state', state)
  redis.call('ZREM', KEY.webhooks, id)
  redis.call('EXPIRE', key, ttl)
  redis.call('ZADD', KEY.retained, stamp(now + ttl), tenant .. '/' .. id)
end
