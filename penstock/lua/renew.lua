#!lua flags=allow-oom
-- A worker keeps its leases, and hears which jobs are no longer its own or shall stop.
-- include: clock
--
-- KEYS  none
-- ARGV  1 lease in seconds, then for each job: id, holder, route
-- reply {id, "lost" | "cancelled", reason...}   three values for each job that must stop

local until_ = stamp(clock() + tonumber(ARGV[1]))
local stops = {}
for i = 2, #ARGV, 3 do
  local id, holder, route = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local f = redis.call('HMGET', KEY.job .. id, 'state', 'holder', 'cancel_reason')
  if f[1] ~= 'running' or f[2] ~= holder then
    stops[#stops + 1], stops[#stops + 2], stops[#stops + 3] = id, 'lost', f[1] or 'unknown'
  else
    redis.call('ZADD', KEY.held .. route, until_, id)
    if f[3] then
      stops[#stops + 1], stops[#stops + 2], stops[#stops + 3] = id, 'cancelled', f[3]
    end
  end
end
return stops
