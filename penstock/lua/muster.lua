#!lua flags=allow-oom
-- Lists the workers that are there. Changes nothing.
-- include: clock
--
-- KEYS  none: who only reads has no right to keys that are named so
-- ARGV  none
-- reply {{name, field, value...}...} by name

local found = {}
local there = redis.call('ZRANGE', KEY.workers, stamp(clock()), '+inf', 'BYSCORE', 'WITHSCORES')
for i = 1, #there, 2 do
  local fields = redis.call('HGETALL', KEY.worker .. there[i])
  if #fields > 0 then
    found[#found + 1] = { there[i], 'gone_at', tostring(there[i + 1]), unpack(fields) }
  end
end
table.sort(found, function(a, b) return a[1] < b[1] end)
return found
