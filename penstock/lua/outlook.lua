#!lua flags=no-writes
-- How long waiting jobs will wait. Changes nothing.
-- include: clock, outlook
--
-- KEYS  none
-- ARGV  ids
-- reply for each {position, wait}: its place in its route's line from 1 on, and seconds; "" for each
--       that is not known: see include/outlook.lua

local now, replies = clock(), {}
for i, id in ipairs(ARGV) do
  local position, wait = outlook(id, now)
  replies[i] = { position or '', wait and stamp(wait) or '' }
end
return replies
