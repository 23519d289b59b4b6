#!lua flags=allow-oom
-- A worker that starts publishes how to ring it, its routes, and the limits of routes and tenants.
-- include: publish
--
-- KEYS  1 dispatch
-- ARGV  1 Celery's message template  2 the Celery version that made it
--       3... limits, as publish.lua reads them
-- reply the version of what was applied last, "" where nothing was: see apply.lua

-- Taken apart once, at the names to fill in: every admission puts a message together.
local parts, rest = {}, 1
for text, name, behind in string.gmatch(ARGV[1], '(.-)@@(%a+)@@()') do
  parts[#parts + 1], parts[#parts + 2] = text, name
  rest = behind
end
parts[#parts + 1] = string.sub(ARGV[1], rest)
redis.call('HSET', KEYS[1], 'template', ARGV[1], 'celery', ARGV[2], 'parts', cmsgpack.pack(unpack(parts)))
publish(3)
return redis.call('HGET', KEY.applied, 'version') or ''
