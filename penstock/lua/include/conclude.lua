-- Ends a job: its last event, its terminal state, its places given up, its retention started.
-- include: emit, report, withdraw, clock, settle, usage, conversation
-- record: table of read_record. data: JSON text.
-- used: see usage.lua; nil where nothing is known.
local function conclude(job, record, state, n, now, data, used)
  local event = emit(job, record.attempt, n, state, now, data)
  if not event then
    n = next_n(job, record.attempt)  -- the feed must never be left without its end
    event = emit(job, record.attempt, n, state, now, data)
  end
  report(job, record, record.attempt, n, state, now, event)
  redis.call('HSET', KEY.job .. job, 'state', state, 'finished_at', stamp(now),
    'final', record.attempt .. '-' .. n)
  settle(job, record, now, used)
  account(record, used, true, now)
  withdraw(job, record)
  redis.call('SREM', KEY.unfinished .. record.tenant, job)
  leave_line(job, record)
  local ttl = record.result_ttl
  redis.call('EXPIRE', KEY.job .. job, ttl)
  redis.call('EXPIRE', KEY.feed .. job, ttl)
  if record.idempotency_key ~= '' then
    redis.call('EXPIRE', KEY.idem .. record.tenant .. ':' .. record.idempotency_key, ttl)
  end
  redis.call('ZADD', KEY.retained, stamp(now + ttl), record.tenant .. '/' .. job)
  if state == 'failed' then
    redis.call('LPUSH', KEY.failures, job)
    redis.call('LTRIM', KEY.failures, 0, 99)
  end
end
