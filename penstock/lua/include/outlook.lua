-- A waiting job's outlook: its place in the line of its route, and how long it will wait there, were
-- everything to go on as it does.
-- include: clock, gate, tenant

-- Tenants whose lines are looked at one by one; where more are before a job, these stand for all.
local LOOKED_AT_EACH = 64

-- What the outlook of a route's jobs depends on besides themselves; nil: nobody serves it.
local lines = {}
local function read_line(route, now)
  local gate = not lines[route] and read_gate(route)
  if gate then
    lines[route] = { route = route, gate = gate, now = now, allowed = allowed_concurrency(gate, now),
      in_use = redis.call('ZCARD', KEY.held .. route),
      held_up = math.max(gate.paused_until, gate.open_until or 0) - now }
  end
  return lines[route]
end

-- The tenants whose turns come first, read once for all jobs of a line that are looked at.
local function first_turns(line)
  if line.first then return line.first end
  line.first = {}
  local turns = redis.call('ZRANGE', KEY.turns .. line.route, 0, LOOKED_AT_EACH - 1, 'WITHSCORES')
  for i = 1, #turns, 2 do
    local name = turns[i]
    line.first[#line.first + 1] = { name = name, turn = tonumber(turns[i + 1]),
      weight = read_tenant(name).weight,
      waiting = redis.call('ZCARD', KEY.backlog .. line.route .. ':' .. name) }
  end
  return line.first
end

-- How many jobs of one of them start before the job of `tenant` that starts at a virtual time.
local function jobs_before(line, other, tenant, start)
  local jobs = (start - other.turn) * other.weight / math.max(line.gate.tokens_mean, 1)
  local whole = math.floor(jobs + 0.000001)
  if jobs - whole > 0.000001 or other.name < tenant then whole = whole + 1 end  -- a draw goes by name
  return math.min(other.waiting, whole)
end

-- How many jobs start before the one that has `rank` others of its own tenant before it.
local function place_in(line, tenant, limits, rank)
  local turns, served = KEY.turns .. line.route, KEY.served .. line.route
  local turn = tonumber(redis.call('ZSCORE', turns, tenant)
    or redis.call('ZSCORE', served, tenant) or line.gate.virtual_time)
  local start = turn + rank * math.max(line.gate.tokens_mean, 1) / limits.weight
  -- Of those at the same virtual time the first by name goes first.
  local before = math.max(redis.call('ZCOUNT', turns, '-inf', '(' .. stamp(start)),
    redis.call('ZRANK', turns, tenant) or 0)
  if before == 0 then return rank end
  local first, jobs = first_turns(line), 0
  local looked_at = math.min(before, #first)
  for i = 1, looked_at do
    if first[i].name ~= tenant then jobs = jobs + jobs_before(line, first[i], tenant, start) end
  end
  return rank + math.floor(jobs * before / looked_at)
end

-- Seconds until a meter has let `cost` pass, on the average of what comes before.
local function metered(rate, paid, cost, now)
  if rate.interval == 0 then return 0 end
  return math.max(0, math.max(paid, now) + cost * rate.interval - rate.slack - now)
end

-- Seconds until one of `allowed` slots is free for the job that has so many before it; nil: unknown.
local function slot_wait(before, allowed, in_use, seconds)
  local lacking = before - (allowed - in_use) + 1
  if lacking <= 0 then return 0 end
  return seconds > 0 and lacking * seconds / allowed or nil
end

-- Seconds until a tenant's own limits let the job with this rank through; nil: unknown.
local function tenant_wait(line, tenant, limits, rank)
  if not limits.has_any then return 0 end
  local gate, slots = line.gate, 0
  if limits.concurrency > 0 then
    local running = redis.call('SCARD', KEY.running .. tenant)
    slots = slot_wait(rank, limits.concurrency, running, gate.seconds_mean)
  end
  local parked = tonumber(redis.call('ZSCORE', KEY.parked .. line.route, tenant) or 0)
  local until_time = parked < math.huge and parked - line.now or 0
  return slots and math.max(slots, until_time,
    metered(limits.requests, limits.requests_paid, rank + 1, line.now),
    metered(limits.tokens, limits.tokens_paid, (rank + 1) * gate.tokens_mean, line.now))
end

-- The outlook of a job with `rank` others of its tenant before it: how many jobs of all tenants are
-- before it, and the seconds until its turn; nil where the route has not answered yet.
local function outlook_of(line, tenant, rank)
  local gate, limits = line.gate, read_tenant(tenant)
  local before = place_in(line, tenant, limits, rank)
  local slots = slot_wait(before, line.allowed, line.in_use, gate.seconds_mean)
  local own = tenant_wait(line, tenant, limits, rank)
  if not slots or not own then return before end
  return before, math.max(0, line.held_up) + math.max(slots, own,
    metered(gate.requests, gate.requests_paid, before + 1, line.now),
    metered(gate.tokens, gate.tokens_paid, (before + 1) * gate.tokens_mean, line.now))
end

-- A job's position, from 1 on, and the seconds it will wait, where that is known; and its record, of
-- the fields asked for. nil where it does not wait in a line: it has another state, another job of
-- its conversation is first, or it has lost its worker too often.
local function outlook(id, now, ...)
  local f = redis.call('HMGET', KEY.job .. id, 'state', 'route', 'tenant', ...)
  local line = f[1] == 'queued' and read_line(f[2], now)
  local rank = line and redis.call('ZRANK', KEY.backlog .. f[2] .. ':' .. f[3], id)
  if not rank then return nil end
  local before, wait = outlook_of(line, f[3], rank)
  return before + 1, wait, f
end
