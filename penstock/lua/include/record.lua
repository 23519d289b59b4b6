-- Reads the fields of a job's record that transitions need; nil where there is no such job.
local function read_record(job)
  local f = redis.call('HMGET', KEY.job .. job, 'state', 'tenant', 'route', 'attempt', 'excused',
    'recoveries', 'rings', 'arrival', 'deadline', 'result_ttl', 'idempotency_key', 'cancel_reason')
  if not f[1] then return nil end
  return {
    state = f[1], tenant = f[2], route = f[3], attempt = f[4], excused = tonumber(f[5]),
    recoveries = tonumber(f[6]), rings = tonumber(f[7]), arrival = f[8], deadline = f[9],
    result_ttl = tonumber(f[10]), idempotency_key = f[11], cancel_reason = f[12],
  }
end
