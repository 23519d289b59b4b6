#!lua flags=allow-oom
-- A worker or a gateway says that it is there, and which formats of a record it reads; new records are
-- written in the newest that all of them read. One that is there lowers it at once. It rises when
-- nobody has kept it down for a while: when Redis was away, everybody gets that while to come back.
-- include: clock
--
-- KEYS  1 readers  2 format  3 keeper
-- ARGV  1 the newest format it reads and a name that nobody else has, a space between them
--       2 seconds until it counts as gone unless it comes again; 0: it goes
-- reply what is written now

local member, patience = ARGV[1], tonumber(ARGV[2])
local now = clock()

local memory = redis.call('HMGET', KEYS[3], 'agreed_at', 'rises_from')
local rises_from = tonumber(memory[2] or nil) or 0
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', stamp(now))
if patience == 0 then
  redis.call('ZREM', KEYS[1], member)
else
  if now - (tonumber(memory[1] or nil) or 0) > patience / 2 then rises_from = now + patience end
  redis.call('HSET', KEYS[3], 'agreed_at', stamp(now), 'rises_from', stamp(rises_from))
  redis.call('ZADD', KEYS[1], stamp(now + patience), member)
end

local lowest
for _, each in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local reads = tonumber(string.match(each, '^%d+'))
  lowest = math.min(lowest or reads, reads)
end
local written = tonumber(redis.call('GET', KEYS[2]) or nil)
if lowest and (not written or lowest < written or now >= rises_from) then
  written = lowest
  redis.call('SET', KEYS[2], written)
end
return written or ''
