#!lua flags=allow-oom
-- Lists the workers that are there. Changes nothing.
-- include: clock
--
-- KEYS  1 workers
-- ARGV  none
-- reply {{name, field, value...}...} by name

local found = {}
local there = redis.call('ZRANGE', KEYS[1], stamp(clock()), '+inf', 'BYSCORE', 'WITHSCORES')
for i = 1, #there, 2 do
  local fields = redis.call('HGETALL', KEY.worker .. there[i])
  if #fields > 0 then
    found[#found + 1] = { there[i], 'gone_at', tostring(there[i + 1]), unpack(fields) }
  end
end
table.sort(found, function(a, b) return a[1] < b[1] end)
return found
