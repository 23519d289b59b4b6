#!lua flags=allow-oom
-- A person applies a changed penstock.toml: its limits hold at once, and the workers are told.
-- include: publish
--
-- KEYS  1 applied
-- ARGV  1 version: another each time  2 the routes and tenants as JSON, for the workers
--       3... limits, as publish.lua reads them
-- reply how many worker processes listen

if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'publication', ARGV[2])
  publish(3)
end
return redis.call('PUBLISH', KEY.control, cjson.encode({ apply = ARGV[1] }))
