-- A route's gate: its limits as the settings publish them, and its state; what admission has to know.
-- include: clock, meter
local function read_gate(route)
  local f = redis.call('HMGET', KEY.gate .. route, 'concurrency', 'concurrency_min', 'requests',
    'tokens', 'virtual_time', 'requests_paid', 'tokens_paid', 'output_estimate', 'cut_at',
    'cut_from', 'paused_until', 'open_until', 'probe', 'suspect', 'tokens_per_minute',
    'output_mean', 'price_input', 'price_output', 'quickest', 'seconds_mean', 'tokens_mean',
    'fallback', 'service_tiers', 'first_rate', 'first_at')
  if not f[1] then return nil end
  return {
    concurrency = tonumber(f[1]), concurrency_min = tonumber(f[2] or 1),
    requests = read_rate(f[3]), tokens = read_rate(f[4]), virtual_time = tonumber(f[5] or 0),
    requests_paid = tonumber(f[6] or 0), tokens_paid = tonumber(f[7] or 0),
    output_estimate = tonumber(f[8] or 1024), cut_at = tonumber(f[9] or nil),
    cut_from = tonumber(f[10] or 0), paused_until = tonumber(f[11] or 0),
    open_until = tonumber(f[12] or nil), probe = f[13], suspect = f[14],
    tokens_per_minute = tonumber(f[15] or nil), output_mean = tonumber(f[16] or 0),
    price_input = tonumber(f[17] or 0), price_output = tonumber(f[18] or 0),
    quickest = tonumber(f[19] or 0), seconds_mean = tonumber(f[20] or 0),
    tokens_mean = tonumber(f[21] or 0), fallback = f[22] or '', service_tiers = f[23] or '',
    first_rate = tonumber(f[24] or 0), first_at = tonumber(f[25] or 0),
  }
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

-- The rate of first attempts is of so many seconds, about.
local FIRST_MEMORY = 10

local function breaker_of(gate, now)
  if not gate.open_until then return 'closed' end
  return gate.open_until > now and 'open' or 'half open'
end
