#!lua flags=allow-oom
-- The relay's write: deltas of many jobs in one call, each guarded by its fence.
-- include: clock, emit, report_delta
--
-- KEYS  none
-- ARGV  for each event: id of the job, attempt, n, data (JSON)
-- reply {id...}   the jobs whose events were refused: the attempt is not the running one

local now, refused, fence, reports = clock(), {}, {}, {}
for i = 1, #ARGV, 4 do
  local id, attempt = ARGV[i], ARGV[i + 1]
  local held = fence[id]
  if held == nil then
    local f = redis.call('HMGET', KEY.job .. id, 'state', 'attempt', 'reports')
    held = f[1] == 'running' and f[2] == attempt
    fence[id], reports[id] = held, f[3] and string.find(f[3], 'delta', 1, true)
    if not held then refused[#refused + 1] = id end
  end
  if held and emit(id, attempt, ARGV[i + 2], 'delta', now, ARGV[i + 3]) and reports[id] then
    report_delta(id, attempt, ARGV[i + 2], now)
  end
end
return refused
