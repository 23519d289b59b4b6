-- Reads the fields of a job's record that transitions need; nil where there is no such job.
-- include: place
-- A field that was never written counts as 0 or empty: waiting jobs are many, so they are small.
local function read_record(job)
  local f = redis.call('HMGET', KEY.job .. job, 'state', 'tenant', 'route', 'attempt', 'excused',
    'recoveries', 'rings', 'first_ring', 'created_at', 'available_at', 'priority', 'deadline',
    'result_ttl', 'idempotency_key', 'cancel_reason', 'conversation', 'reserved', 'admitted_at', 'charged',
    'reserved_usd', 'started_at', 'asked_route', 'webhook', 'holder')
  if not f[1] then return nil end
  return {
    state = f[1], tenant = f[2], route = f[3], attempt = f[4] or '0',
    excused = tonumber(f[5] or 0), recoveries = tonumber(f[6] or 0),
    rings = tonumber(f[7] or 0), first_ring = tonumber(f[8] or 1),
    arrival = arrival_of(tonumber(f[10] or f[9]), f[11]), deadline = f[12] or '',
    result_ttl = tonumber(f[13]), idempotency_key = f[14] or '', cancel_reason = f[15],
    conversation = f[16] or '', reserved = tonumber(f[17] or nil),
    admitted_at = tonumber(f[18] or 0), charged = tonumber(f[19] or 0),
    reserved_usd = tonumber(f[20] or nil),
    started_at = tonumber(f[21] or 0), priority = f[11], asked_route = f[22],
    webhook = f[23], holder = f[24],
  }
end
