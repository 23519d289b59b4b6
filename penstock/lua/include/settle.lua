-- Settles with the gate when an admitted job gives its place up.
-- include: clock, gate, tenant, window, budget, place

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
  local gate = read_gate(record.route)
  if gate and gate.tokens_per_minute then
    shift(KEY.gate .. record.route, 'tokens_paid', over * gate.tokens.interval)
    window_add(record.route, record.admitted_at, over, now)
  end
  shift_turn(record.route, record.tenant, (tokens - record.charged) / limits.weight)
  redis.call('HDEL', KEY.job .. job, 'reserved', 'charged', 'reserved_usd')
  redis.call('SREM', KEY.running .. record.tenant, job)
  if not is_limited(limits) then return end
  shift(KEY.tenant .. record.tenant, 'tokens_paid', over * limits.tokens.interval)
  if record.reserved_usd then
    spend(record.tenant, used and tonumber(used.usd) or 0, record.reserved_usd, record.admitted_at, now)
  end
  look_again(record.tenant)
end

-- How long a route's answers are, as counts by size: each class is a tenth larger than the one
-- before. What nine in ten do not exceed is what the gate expects of the next one. It is counted
-- anew at each of the first answers and then at every thirty-second; old ones are forgotten by half.
local CLASS, RARELY, MEMORY, FEW, RECOUNT = math.log(1.1), 0.9, 2000, 8, 32

local function recount(key)
  local classes, total, seen = {}, 0, 0
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local class = tonumber(all[i])
    if class then
      classes[#classes + 1] = { class, tonumber(all[i + 1]) }
      total = total + tonumber(all[i + 1])
    end
  end
  if total > MEMORY then
    for _, each in ipairs(classes) do redis.call('HSET', key, each[1], math.floor(each[2] / 2)) end
  end
  table.sort(classes, function(a, b) return a[1] < b[1] end)
  for _, each in ipairs(classes) do
    seen = seen + each[2]
    if seen >= RARELY * total then return math.ceil(math.exp(each[1] * CLASS)) end
  end
end

-- How fast this route's answers can be: what the quickest of the last ones took, in seconds. Each
-- slower one makes it a twentieth longer.
local FORGETS = 1.05
local function learn_quickest(route, seconds)
  local known = tonumber(redis.call('HGET', KEY.gate .. route, 'quickest') or seconds)
  redis.call('HSET', KEY.gate .. route, 'quickest', stamp(math.min(known * FORGETS, seconds)))
end

-- tokens: of an answer. The mean follows some thirty answers.
local FOLLOWS = 32
local function learn_output(route, tokens)
  local key, mean = KEY.outputs .. route, redis.call('HGET', KEY.gate .. route, 'output_mean')
  mean = mean and tonumber(mean) + (tokens - tonumber(mean)) / FOLLOWS or tokens
  redis.call('HSET', KEY.gate .. route, 'output_mean', string.format('%.1f', mean))
  redis.call('HINCRBY', key, math.ceil(math.log(math.max(tokens, 1)) / CLASS), 1)
  local count = redis.call('HINCRBY', key, 'count', 1)
  if count > FEW and count % RECOUNT ~= 0 then return end
  redis.call('HSET', KEY.gate .. route, 'output_estimate', recount(key))
end
