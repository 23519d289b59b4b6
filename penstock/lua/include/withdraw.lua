-- Takes a job out of every place where it may wait or be held.
local function withdraw(job, route, tenant)
  redis.call('ZREM', KEY.backlog .. route .. ':' .. tenant, job)
  redis.call('ZREM', KEY.suspects .. route, job)
  redis.call('ZREM', KEY.held .. route, job)
  redis.call('ZREM', KEY.due, job)
  redis.call('ZREM', KEY.deadlines, job)
end
