#!lua flags=allow-oom
-- What goes on at this moment, for `penstock top`. Changes nothing.
-- include: clock
--
-- KEYS  none
-- ARGV  1 most jobs to name of a route  2 most failures to name  3 today (UTC)  4... tenants
-- reply {now, routes, jobs, failures, tenants}
--       routes: the name of each that was ever served
--       jobs: {id, state, route, tenant, attempt, since} of those admitted or running
--       failures: {id, route, tenant, attempt, when, event} of those that failed last, newest first
--       tenants: {name, jobs admitted or running, field, value... of today's usage}

local most, now = tonumber(ARGV[1]), clock()
local routes, jobs, failures, tenants = redis.call('SMEMBERS', KEY.routes), {}, {}, {}

for _, route in ipairs(routes) do
  for _, id in ipairs(redis.call('ZRANGE', KEY.held .. route, 0, most - 1)) do
    local f = redis.call('HMGET', KEY.job .. id, 'state', 'tenant', 'attempt', 'started_at',
      'admitted_at')
    if f[1] then
      local since = f[1] == 'running' and f[4] or f[5] or ''
      jobs[#jobs + 1] = { id, f[1], route, f[2], f[3] or '0', since }
    end
  end
end

local told = {}
for _, id in ipairs(redis.call('LRANGE', KEY.failures, 0, tonumber(ARGV[2]) - 1)) do
  local f = redis.call('HMGET', KEY.job .. id, 'state', 'route', 'tenant', 'attempt', 'finished_at')
  if f[1] == 'failed' and not told[id] then
    local last = redis.call('XREVRANGE', KEY.feed .. id, '+', '-', 'COUNT', 1)[1]
    failures[#failures + 1] = { id, f[2], f[3], f[4] or '0', f[5], last and last[2][2] or '' }
    told[id] = true
  end
end

for i = 4, #ARGV do
  local running = redis.call('SCARD', KEY.running .. ARGV[i])
  local used = redis.call('HGETALL', KEY.usage .. ARGV[i] .. ':' .. ARGV[3])
  tenants[#tenants + 1] = { ARGV[i], running, unpack(used) }
end
return { stamp(now), routes, jobs, failures, tenants }
