#!lua flags=allow-oom
-- A person applies a changed penstock.toml: its limits hold at once, and the workers are told.
-- include: publish
--
-- KEYS  1 applied
-- ARGV  1 version: another each time  2 the routes and tenants as JSON, for the workers
--       3... limits, as publish.lua reads them
-- reply how many worker processes listen

-- Bytes of the versions before this one: a client that lost the reply sends an old one again.
local REMEMBERED = 1000

local applied = redis.call('HMGET', KEYS[1], 'version', 'earlier')
local last, earlier = applied[1] or '', applied[2] or ''
if last ~= ARGV[1] and not string.find(earlier, ARGV[1], 1, true) then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'publication', ARGV[2],
    'earlier', string.sub(last .. ' ' .. earlier, 1, REMEMBERED))
  publish(3)
end
return redis.call('PUBLISH', KEY.control, cjson.encode({ apply = ARGV[1] }))
