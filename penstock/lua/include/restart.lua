-- Hands a running job back: its slot given up, what it said so far declared void.
-- include: clock, emit, report, settle, usage, conversation
-- delay: seconds until it may run again; 0 puts it into the backlog at once.
-- score: its place there.
-- used: see usage.lua.
local function restart(job, record, now, reason, delay, score, used)
  local n = next_n(job, record.attempt)
  local retry_at = now + delay
  if n > 2 then  -- more than `started` is out, so a reader has text to throw away
    local event = emit(job, record.attempt, n, 'restarted', now, cjson.encode({
      attempt = tonumber(record.attempt), reason = reason, retry_at = retry_at }))
    report(job, record, record.attempt, n, 'restarted', now, event)
  end
  settle(job, record, now, used)
  account(record, used, false, now)
  redis.call('ZREM', KEY.held .. record.route, job)
  if record.asked_route then redis.call('SADD', KEY.guests .. record.route, job) end
  if record.deadline ~= '' then redis.call('ZADD', KEY.deadlines, record.deadline, job) end
  if delay > 0 then
    redis.call('HSET', KEY.job .. job, 'state', 'scheduled', 'waiting_since', stamp(retry_at))
    redis.call('ZADD', KEY.due, stamp(retry_at), job)
    return 'scheduled'
  end
  redis.call('HSET', KEY.job .. job, 'state', 'queued', 'waiting_since', stamp(now))
  queue_up(job, record, score, now)
  return 'queued'
end

-- The place in front of everybody who waits, kept in order among those put there:
-- a billion seconds, some 31 years, before its arrival.
local function front(record)
  return stamp(tonumber(record.arrival) - 1000000000)
end
