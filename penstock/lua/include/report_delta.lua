-- Deltas go to an endpoint at most every INTERVAL seconds: one delivery is open at a time, and when it
-- is taken it gets all that the answer has grown by until then.
-- include: clock, report
local INTERVAL = 0.5

local function report_delta(job, attempt, n, now)
  local key = KEY.job .. job
  local f = redis.call('HMGET', key, 'delta_open', 'delta_after', 'delta_due', 'tenant', 'route',
    'webhook', 'result_ttl')
  if f[1] == attempt then return end
  local record = { tenant = f[4], route = f[5], webhook = f[6], result_ttl = f[7] }
  local endpoint = read_endpoint(job, record)
  if not endpoint then return end
  local due = math.max(now, tonumber(f[3] or 0) + INTERVAL)
  local after = f[2] or ''
  if string.match(after, '^%d+') ~= attempt then after = attempt .. '-1' end
  local delivery = add_delivery(job, record, endpoint, 'delta', attempt .. '-' .. n, now, due)
  redis.call('HSET', delivery, 'after', after)
  redis.call('HSET', key, 'delta_open', attempt, 'delta_due', stamp(due))
end
