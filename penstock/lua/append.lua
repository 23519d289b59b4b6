#!lua flags=allow-oom
-- The relay's write: deltas of many jobs in one call, each guarded by its claim's token.
-- include: clock, emit, report_delta
--
-- KEYS  none
-- ARGV  for each event: id of the job, holder, n, data (JSON)
-- reply {holder...}   the claims whose events were refused: another one has the job, or nobody

local now, refused, attempts, reports = clock(), {}, {}, {}
for i = 1, #ARGV, 4 do
  local id, holder = ARGV[i], ARGV[i + 1]
  local attempt = attempts[holder]
  if attempt == nil then
    local f = redis.call('HMGET', KEY.job .. id, 'state', 'holder', 'attempt', 'reports')
    attempt = f[1] == 'running' and f[2] == holder and f[3]
    attempts[holder], reports[id] = attempt, f[4] and string.find(f[4], 'delta', 1, true)
    if not attempt then refused[#refused + 1] = holder end
  end
  if attempt and emit(id, attempt, ARGV[i + 2], 'delta', now, ARGV[i + 3]) and reports[id] then
    report_delta(id, attempt, ARGV[i + 2], now)
  end
end
return refused
