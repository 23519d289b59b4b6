-- How an endpoint does: one that fails again and again is called rarely, so that its deliveries do
-- not keep others waiting; one that said 410 is not called at all.
-- include: clock

-- FAILING failures in a row make an endpoint one that fails: from then on it is called once in CALM
-- seconds, by whichever worker, until it answers. REMEMBERED is in seconds.
local FAILING, CALM, REMEMBERED = 5, 1, 30 * 86400

local function endpoint_key(tenant, url)
  return KEY.endpoint .. tenant .. ':' .. redis.sha1hex(url)
end

-- Whether it may be called: "yes", "later" or "never".
local function may_call(key, now)
  local f = redis.call('HMGET', key, 'disabled', 'failures', 'next_call')
  if f[1] then return 'never' end
  if tonumber(f[2] or 0) < FAILING then return 'yes' end
  if now < tonumber(f[3] or 0) then return 'later' end
  redis.call('HSET', key, 'next_call', stamp(now + CALM))
  return 'yes'
end

local function endpoint_failed(key)
  redis.call('HINCRBY', key, 'failures', 1)
  redis.call('EXPIRE', key, REMEMBERED)
end
