-- Appends one event to a job's feed and publishes the same bytes.
-- data: JSON text. Returns the event, as JSON; false where the feed has this id or a later one: the
-- event is there, because a client sent its command again, or a newer attempt has taken over.
local function emit(job, attempt, n, kind, time, data)
  local feed = KEY.feed .. job
  local id = attempt .. '-' .. n
  local event = '{"id":"' .. id .. '","job":"' .. job .. '","type":"' .. kind
    .. '","time":' .. string.format('%.3f', time) .. ',"data":' .. data .. '}'
  local added = redis.pcall('XADD', feed, id, 'event', event)
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return false end
    error(added)
  end
  redis.call('PUBLISH', feed, event)
  return event
end

-- The number of the next event of this attempt; the last one's attempt may be an older one.
local function next_n(job, attempt)
  local last = redis.call('XREVRANGE', KEY.feed .. job, '+', '-', 'COUNT', 1)[1]
  if not last then return 1 end
  local of, n = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(of) == tonumber(attempt) then return tonumber(n) + 1 end
  return 1
end
