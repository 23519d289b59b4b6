-- Puts a job into its tenant's backlog. score: its arrival, see enqueue.lua.
-- A tenant that waits for its turn already keeps its place; one that wakes up starts at the gate's
-- virtual time, so it gets no credit for having slept.
local function place(job, route, tenant, score)
  redis.call('ZADD', KEY.backlog .. route .. ':' .. tenant, score, job)
  local virtual_time = redis.call('HGET', KEY.gate .. route, 'virtual_time') or '0'
  redis.call('ZADD', KEY.turns .. route, 'NX', virtual_time, tenant)
end
