#!lua flags=allow-oom
-- Tells those who follow waiting jobs how long that will take: `queued` again, where the outlook has
-- changed much. Every worker asks for it; it does nothing twice within its period.
-- include: clock, data, emit, outlook
--
-- KEYS  none
-- ARGV  1 seconds between two rounds  2 how many followed jobs that wait to look at, at most
-- reply how many were told

local period, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock()
local memory = redis.call('HMGET', KEY.keeper, 'announced_at', 'announced')
if now - tonumber(memory[1] or 0) < period then return 0 end

-- Jobs whose state is looked at for one that waits, at most: the others run.
local LOOKED_AT = 10

-- Half of it or less, or twice as much: what a person would want to hear of.
local function changed_much(value, told)
  told = tonumber(told or nil)
  if not value or not told then return value ~= nil end
  return value ~= told and (value * 2 <= told or value >= told * 2)
end

local function tell(id)
  local position, wait, f = outlook(id, now, 'attempt', 'priority', 'told_position', 'told_wait')
  if not position then return nil end
  wait = wait and math.ceil(wait)
  if not changed_much(position, f and f[6]) and not changed_much(wait, f and f[7]) then return 0 end
  local attempt = f[4] or '0'
  redis.call('HSET', KEY.job .. id, 'told_position', position, 'told_wait', wait or '')
  emit(id, attempt, next_n(id, attempt), 'queued', now, queued_data(f[2], f[3], f[5], position, wait))
  return 1
end

-- A round goes on where the last one ended, so that everybody has a turn. The order of the channels
-- changes only when their number has.
local channels = redis.call('PUBSUB', 'CHANNELS', KEY.feed .. '*')
local from, looked_at, waiting, told = tonumber(memory[2] or 0), 0, 0, 0
while looked_at < math.min(#channels, most * LOOKED_AT) and waiting < most do
  local channel = channels[(from + looked_at) % #channels + 1]
  local count = tell(string.sub(channel, #KEY.feed + 1))
  looked_at, waiting, told = looked_at + 1, waiting + (count and 1 or 0), told + (count or 0)
end
redis.call('HSET', KEY.keeper, 'announced_at', stamp(now), 'announced', from + looked_at)
return told
