-- Takes a job out of every place where it may wait or be held.
local function withdraw(job, record)
  local route = record.route
  redis.call('ZREM', KEY.backlog .. route .. ':' .. record.tenant, job)
  redis.call('ZREM', KEY.suspects .. route, job)
  redis.call('ZREM', KEY.held .. route, job)
  redis.call('ZREM', KEY.due, job)
  redis.call('ZREM', KEY.aside, job)
  if record.deadline ~= '' then
    redis.call('ZREM', KEY.deadlines, job)
    redis.call('ZREM', KEY.pressed .. route, job)
  end
  if record.asked_route then redis.call('SREM', KEY.guests .. route, job) end
end
