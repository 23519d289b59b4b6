#!lua flags=allow-oom
-- A worker that starts publishes how to ring it, its routes, and the limits of routes and tenants.
--
-- KEYS  1 dispatch
-- ARGV  1 Celery's message template  2 the Celery version that made it
--       3 how many tenants have limits, then for each: name, limits (see tenant.lua)
--       then for each route: name, how many fields, and for each field of its gate: name, value
-- reply "registered"

redis.call('HSET', KEYS[1], 'template', ARGV[1], 'celery', ARGV[2])
local at = 4 + 2 * tonumber(ARGV[3])
redis.call('DEL', KEY.limits)
for i = 4, at - 1, 2 do redis.call('HSET', KEY.limits, ARGV[i], ARGV[i + 1]) end
while at <= #ARGV do
  local last = at + 1 + 2 * tonumber(ARGV[at + 1])
  redis.call('SADD', KEY.routes, ARGV[at])
  redis.call('HSET', KEY.gate .. ARGV[at], unpack(ARGV, at + 2, last))
  for _, tenant in ipairs(redis.call('ZRANGE', KEY.parked .. ARGV[at], 0, -1)) do
    redis.call('ZADD', KEY.parked .. ARGV[at], 0, tenant)  -- its limits may be others now
  end
  at = last + 1
end
return 'registered'
