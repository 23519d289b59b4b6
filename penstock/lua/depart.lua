#!lua flags=allow-oom
-- A worker leaves in good order; one that dies is forgotten by itself.
--
-- KEYS  1 worker:<name>
-- ARGV  1 name
-- reply 1

for route in string.gmatch(redis.call('HGET', KEYS[1], 'routes') or '', '%S+') do
  redis.call('ZREM', KEY.serving .. route, ARGV[1])
end
redis.call('ZREM', KEY.workers, ARGV[1])
redis.call('DEL', KEYS[1])
return 1
