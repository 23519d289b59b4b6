#!lua
-- Accepts jobs: writes each record, queues or schedules it, emits `queued`.
-- Refused whole when Redis is at its memory limit (no allow-oom flag): nothing is written then.
-- include: clock, data, emit, on_busy, expect
--
-- KEYS  none
-- ARGV  for each job:
--       1 id  2 tenant  3 route  4 "1" if the producer's own settings know the route
--       5 priority (0..9, 9 first)  6 idempotency key or ""  7 digest of the request
--       8 delay in seconds  9 deadline: "", "+<seconds from now>" or seconds since the epoch
--       10 conversation or ""  11 what to do where it has jobs already: see conversation.lua
--       12 the newest format of a record that the producer writes  13 traceparent or ""
--       14 tracestate or ""
--       15 how many more arguments belong to the job: the record's other fields, name and value
-- reply for each job one of
--       {"queued" | "scheduled", id}      accepted
--       {"exists", id, state, traceparent, tracestate}
--                                         the idempotency key's job, or this very one, is there
--       {"conflict", id}                  the idempotency key's job has another request
--       {"busy", id}                      the conversation is at this job, and was not to wait
--       {"over_budget", "day" | "month"}  the tenant's budget has no room for it, and is not to wait
--       {"queue_full", most}              so many of the tenant's jobs wait already
--       {"unknown_route", name...}        with the routes there are

-- From a job's first argument to the first of its record's other fields.
local FIELDS = 15

-- Jobs of one call come one after the other too: a microsecond apart.
local now = clock()
local function tick() now = now + 0.000001 end

local function existing(id, digest)
  local f = redis.call('HMGET', KEY.job .. id, 'digest', 'state', 'traceparent', 'tracestate')
  if not f[1] then return nil end
  if f[1] ~= digest then return {'conflict', id} end
  return {'exists', id, f[2], f[3] or '', f[4] or ''}
end

local known = {}
local function is_known(route)
  if known[route] == nil then known[route] = redis.call('EXISTS', KEY.gate .. route) == 1 end
  return known[route]
end

local seen_owner = {}
local function remember(tenant, route)
  local owner = tenant .. ':' .. route
  if seen_owner[owner] then return end
  seen_owner[owner] = true
  redis.call('SADD', KEY.routes, route)
  redis.call('SADD', KEY.tenants, tenant)
end

local function is_full(tenant)
  local most = limits_of(tenant).max_waiting
  if most == 0 then return false end
  local unfinished, running = KEY.unfinished .. tenant, KEY.running .. tenant
  return redis.call('SCARD', unfinished) - redis.call('SINTERCARD', 2, unfinished, running) >= most
end

-- A field of the record that begins at an argument; nil where it has none.
local function field(name, at, last)
  for i = at, last, 2 do
    if ARGV[i] == name then return ARGV[i + 1] end
  end
end

local gates = {}
local function expected_cost(route, deadline, at, last)
  gates[route] = gates[route] or read_gate(route)
  local gate, request = gates[route], field('request', at, last) or ''
  if not gate then return 0 end
  local tier = tier_for(gate, field('service_tier', at, last), deadline, now)
  local most_output = tonumber(field('max_tokens', at, last) or math.huge)
  local prompt, output = expected_tokens(gate, #request, most_output)
  return expected_usd(gate, prompt, output, tier)
end

-- The period whose budget has no room for the job, of a tenant whose jobs are not to wait for the next.
local spent_of = {}
local function over_budget(tenant, route, deadline, at, last)
  local limits = limits_of(tenant)
  if not limits.rejects or not has_budget(limits) then return nil end
  spent_of[tenant] = spent_of[tenant] or read_spent(tenant, now)
  return spent_period(limits, spent_of[tenant], expected_cost(route, deadline, at, last))
end

-- The format to write: what all read who are there; a producer knows its own and the one before.
local agreed = tonumber(redis.call('GET', KEY.format) or nil)
local function format_for(newest)
  return math.max(newest - 1, math.min(newest, agreed or newest))
end

-- at: where the job's arguments begin; last: where they end.
local function enqueue(at, last)
  local id, tenant, route, priority = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local key, digest, delay, deadline = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  if ARGV[at + 3] ~= '1' and not is_known(route) then
    return {'unknown_route', unpack(redis.call('SMEMBERS', KEY.routes))}
  end
  local seen = existing(id, digest)
  if not seen and key ~= '' then
    local holder = redis.call('GET', KEY.idem .. tenant .. ':' .. key)
    seen = holder and existing(holder, digest)
  end
  if seen then return seen end
  if string.sub(deadline, 1, 1) == '+' then deadline = stamp(now + tonumber(deadline)) end
  local period = over_budget(tenant, route, tonumber(deadline), at + FIELDS, last)
  if period then return {'over_budget', period} end
  if is_full(tenant) then return {'queue_full', tostring(limits_of(tenant).max_waiting)} end
  local conversation = ARGV[at + 9]
  if conversation ~= '' then
    local busy = make_way(tenant, conversation, ARGV[at + 10], now)
    if busy then return {'busy', busy} end
  end

  local state, available = 'queued', now
  if delay ~= '0' then state, available = 'scheduled', now + tonumber(delay) end
  local record, format = KEY.job .. id, format_for(tonumber(ARGV[at + 11]))
  redis.call('HSET', record, 'tenant', tenant, 'route', route, 'priority', priority,
    'digest', digest, 'state', state, 'created_at', stamp(now), 'version', format,
    unpack(ARGV, at + FIELDS, last))
  if format >= 2 and ARGV[at + 12] ~= '' then
    redis.call('HSET', record, 'traceparent', ARGV[at + 12], 'tracestate', ARGV[at + 13])
  end
  if key ~= '' then
    redis.call('HSET', record, 'idempotency_key', key)
    redis.call('SET', KEY.idem .. tenant .. ':' .. key, id)
  end
  if deadline ~= '' then
    redis.call('HSET', record, 'deadline', deadline)
    redis.call('ZADD', KEY.deadlines, deadline, id)
  end
  redis.call('ZADD', KEY.jobs .. tenant, stamp(now), id)
  if limits_of(tenant).max_waiting > 0 then redis.call('SADD', KEY.unfinished .. tenant, id) end
  remember(tenant, route)
  if state == 'scheduled' then
    redis.call('HSET', record, 'available_at', stamp(available))
    redis.call('ZADD', KEY.due, stamp(available), id)
  else
    local waiting = { route = route, tenant = tenant, conversation = conversation, recoveries = 0,
      deadline = deadline }
    queue_up(id, waiting, arrival_of(available, priority), now)
  end
  emit(id, 0, 1, 'queued', now, queued_data(route, tenant, priority))
  return {state, id}
end

local replies, at = {}, 1
while at < #ARGV do
  local last = at + FIELDS - 1 + tonumber(ARGV[at + FIELDS - 1])
  replies[#replies + 1] = enqueue(at, last)
  tick()
  at = last + 1
end
return replies
