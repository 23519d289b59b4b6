-- Stops a job: at once where no worker has it, else by telling that worker.
-- include: clock, data, conclude
-- Returns "cancelled", "cancelling" or "over".
local function stop(job, record, reason, now)
  local key = KEY.job .. job
  if redis.call('HEXISTS', key, 'final') == 1 then return 'over' end
  redis.call('HSETNX', key, 'cancel_reason', reason)
  if record.state == 'running' then
    redis.call('PUBLISH', KEY.control, cjson.encode({ cancel = job, reason = reason }))
    return 'cancelling'
  end
  conclude(job, record, 'cancelled', next_n(job, record.attempt), now, cancelled_data(reason))
  return 'cancelled'
end
