#!lua flags=allow-oom
-- A worker that starts publishes how to ring it, its routes, and the limits of routes and tenants.
-- include: publish
--
-- KEYS  1 dispatch
-- ARGV  1 Celery's message template  2 the Celery version that made it
--       3... limits, as publish.lua reads them
-- reply the version of what was applied last, "" where nothing was: see apply.lua

redis.call('HSET', KEYS[1], 'template', ARGV[1], 'celery', ARGV[2])
publish(3)
return redis.call('HGET', KEY.applied, 'version') or ''
