#!lua flags=allow-oom
-- Lists the workers that are there. Changes nothing.
-- include: clock
--
-- KEYS  1 workers
-- ARGV  none
-- reply {{name, field, value...}...} by name

local found = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], stamp(clock()), '+inf', 'BYSCORE')) do
  local fields = redis.call('HGETALL', KEY.worker .. name)
  if #fields > 0 then found[#found + 1] = { name, unpack(fields) } end
end
table.sort(found, function(a, b) return a[1] < b[1] end)
return found
