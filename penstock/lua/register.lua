#!lua flags=allow-oom
-- A worker that starts publishes how to ring it, its routes, and the limits of routes and tenants.
-- include: publish
--
-- KEYS  1 dispatch
-- ARGV  1 Celery's message template  2 the Celery version that made it
--       3... limits, as publish.lua reads them
-- reply the version of what was applied last, "" where nothing was: see apply.lua

-- The names to fill in become what string.format fills in, once: every admission makes a message.
local names = {}
local format = string.gsub(string.gsub(ARGV[1], '%%', '%%%%'), '@@(%a+)@@', function(name)
  names[#names + 1] = name
  return '%s'
end)
redis.call('HSET', KEYS[1], 'template', ARGV[1], 'celery', ARGV[2],
  'format', format, 'names', table.concat(names, ' '))
publish(3)
return redis.call('HGET', KEY.applied, 'version') or ''
