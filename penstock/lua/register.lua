#!lua flags=allow-oom
-- A worker that starts publishes its routes and how to ring it.
--
-- KEYS  1 dispatch
-- ARGV  1 Celery's message template  2 the Celery version that made it
--       then for each route: name, concurrency, model, url
-- reply "registered"

redis.call('HSET', KEYS[1], 'template', ARGV[1], 'celery', ARGV[2])
for i = 3, #ARGV, 4 do
  redis.call('SADD', KEY.routes, ARGV[i])
  redis.call('HSET', KEY.gate .. ARGV[i], 'concurrency', ARGV[i + 1], 'model', ARGV[i + 2],
    'url', ARGV[i + 3])
end
return 'registered'
