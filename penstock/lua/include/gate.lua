-- A route's gate: its limits as the settings publish them, and its state. Each field adds half a per cent
-- to an admission: what few ask for is read when the first of it is asked for.
-- include: clock, rate
local function read_rest(gate, name)
  local f = redis.call('HMGET', gate.key, 'concurrency_min', 'cut_from', 'probe', 'price_input',
    'price_output', 'quickest', 'seconds_mean', 'tokens_mean', 'fallback', 'suspect')
  local rest = {
    concurrency_min = tonumber(f[1] or 1), cut_from = tonumber(f[2] or 0), probe = f[3],
    price_input = tonumber(f[4] or 0), price_output = tonumber(f[5] or 0),
    quickest = tonumber(f[6] or 0), seconds_mean = tonumber(f[7] or 0),
    tokens_mean = tonumber(f[8] or 0), fallback = f[9] or '', suspect = f[10],
  }
  setmetatable(gate, { __index = rest })
  return rest[name]
end

-- What is not there is false where it has no number that stands for it.
local function read_gate(route)
  local key = KEY.gate .. route
  local f = redis.call('HMGET', key, 'concurrency', 'requests', 'tokens', 'virtual_time',
    'requests_paid', 'tokens_paid', 'output_estimate', 'cut_at', 'paused_until', 'open_until',
    'tokens_per_minute', 'output_mean', 'service_tiers', 'ring')
  if not f[1] then return nil end
  return setmetatable({
    key = key, concurrency = tonumber(f[1]), requests = read_rate(f[2]), tokens = read_rate(f[3]),
    virtual_time = tonumber(f[4] or 0), requests_paid = tonumber(f[5] or 0),
    tokens_paid = tonumber(f[6] or 0), output_estimate = tonumber(f[7] or 1024),
    cut_at = f[8] and tonumber(f[8]), paused_until = tonumber(f[9] or 0),
    open_until = f[10] and tonumber(f[10]), tokens_per_minute = tonumber(f[11] or '') or false,
    output_mean = tonumber(f[12] or 0), service_tiers = f[13] or '',
    ring = f[14],
  }, { __index = read_rest })
end

-- After the upstream said that it is busy, concurrency falls to KEEP of what was in use, and comes
-- back along a cubic: fast, flat where it broke before, then faster and faster (RFC 9438, whose
-- curve is over segments; this one over shares of the route's own limit, so that a route at a third
-- of its limit is back at all of it within 30 s).
local KEEP, CURVE = 0.8, 0.0001

local function allowed_concurrency(gate, now)
  if not gate.cut_at then return gate.concurrency end
  local before = gate.cut_from / gate.concurrency
  local flat = (before * (1 - KEEP) / CURVE) ^ (1 / 3)
  local share = before + CURVE * (now - gate.cut_at - flat) ^ 3
  local least = math.min(gate.concurrency_min, gate.concurrency)
  return math.max(least, math.min(gate.concurrency, math.floor(share * gate.concurrency)))
end

local function breaker_of(gate, now)
  if not gate.open_until then return 'closed' end
  return gate.open_until > now and 'open' or 'half open'
end
