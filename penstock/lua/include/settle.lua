-- Settles with the gate when an admitted job gives its place up.
-- include: clock, rate, tenant, window, budget, place

-- Adds to a field that is a time or a virtual time, if it is there.
local function shift(key, field, by)
  local value = redis.call('HGET', key, field)
  if value then redis.call('HSET', key, field, stamp(tonumber(value) + by)) end
end

-- What an answer used beyond what its tenant's turn was charged with moves the turn on; what it did
-- not use moves it back.
local function shift_turn(route, tenant, by)
  for _, key in ipairs({ KEY.turns .. route, KEY.served .. route }) do
    if redis.call('ZSCORE', key, tenant) then redis.call('ZINCRBY', key, stamp(by), tenant) end
  end
end

-- A tenant that waits for its own limits may have room now, on every route: the gate looks again.
local function look_again(tenant)
  for _, route in ipairs(redis.call('SMEMBERS', KEY.routes)) do
    redis.call('ZADD', KEY.parked .. route, 'XX', 0, tenant)
  end
end

-- used: see usage.lua; nil where nothing is known: then all is given back.
local function settle(job, record, now, used)
  if not record.reserved then return end
  local tokens = used and used.tokens or 0
  local over = tokens - record.reserved
  local limits = read_tenant(record.tenant)
  local rate = read_rate(redis.call('HGET', KEY.gate .. record.route, 'tokens'))
  if rate.interval > 0 then
    shift(KEY.gate .. record.route, 'tokens_paid', over * rate.interval)
    window_add(KEY.window .. record.route, record.admitted_at, over, now)
  end
  -- An attempt that ran and told nothing costs its turn what such jobs use: failing is no way to the
  -- front of the line.
  local turn = (used or record.state ~= 'running') and tokens or record.charged
  shift_turn(record.route, record.tenant, (turn - record.charged) / limits.weight)
  redis.call('HDEL', KEY.job .. job, 'reserved', 'charged', 'reserved_usd')
  redis.call('SREM', KEY.running .. record.tenant, job)
  local usd = used and tonumber(used.usd) or 0
  if usd > 0 or record.reserved_usd then  -- also without a budget: one may be set later in the period
    spend(record.tenant, usd, record.reserved_usd or 0, record.admitted_at, now)
  end
  if not limits.has_any then return end
  if limits.tokens_per_minute > 0 then
    window_add(KEY.tenantwindow .. record.tenant, record.admitted_at, over, now)
  end
  shift(KEY.tenant .. record.tenant, 'tokens_paid', over * limits.tokens.interval)
  look_again(record.tenant)
end
