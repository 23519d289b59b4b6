#!lua flags=allow-oom
-- A worker says that it is there, and what it serves.
-- include: clock
--
-- KEYS  1 worker:<name>
-- ARGV  1 name  2 seconds until it counts as gone  3 how many routes  then the routes
--       then what it says of itself: name, value...
-- reply 1

local now, routes = clock(), tonumber(ARGV[3])
local gone = stamp(now + tonumber(ARGV[2]))
redis.call('HSETNX', KEYS[1], 'started_at', stamp(now))
redis.call('HSET', KEYS[1], 'routes', table.concat(ARGV, ' ', 4, 3 + routes),
  unpack(ARGV, 4 + routes))
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2])))
redis.call('ZREMRANGEBYSCORE', KEY.workers, '-inf', stamp(now))
redis.call('ZADD', KEY.workers, gone, ARGV[1])
for i = 4, 3 + routes do
  redis.call('ZREMRANGEBYSCORE', KEY.serving .. ARGV[i], '-inf', stamp(now))
  redis.call('ZADD', KEY.serving .. ARGV[i], gone, ARGV[1])
end
return 1
