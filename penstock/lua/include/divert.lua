-- Moves jobs from a route to its fallbacks: those that wait while its breaker is open, or that would
-- not be answered before their deadline, and those it has failed more than once. There they stand in
-- line like the fallback's own jobs.
-- include: clock, gate, place, emit, data, record

-- The guests that wait for the route; those whose tenant is at a limit of its own hold up nobody else.
local function waiting_guests(route)
  local parked, count = KEY.parked .. route, redis.call('SCARD', KEY.guests .. route)
  if redis.call('EXISTS', parked) == 0 then return count end
  for _, job in ipairs(redis.call('SMEMBERS', KEY.guests .. route)) do
    if redis.call('ZSCORE', parked, redis.call('HGET', KEY.job .. job, 'tenant')) then count = count - 1 end
  end
  return count
end

-- As many jobs as may run there may wait there as guests: the others stay where they were asked for,
-- in case that recovers first.
local function room_for_guests(route, now)
  local gate = read_gate(route)
  if not gate or gate.open_until or gate.paused_until > now then return 0 end
  return allowed_concurrency(gate, now) - waiting_guests(route)
end

-- The first fallback that can take jobs, and how many; nil: none can. after: only those that come
-- after this one in the list.
local function fallback_of(gate, now, after)
  for route in string.gmatch(gate.fallback, '%S+') do
    local room = not after and room_for_guests(route, now) or 0
    if room > 0 then return route, room end
    if route == after then after = nil end
  end
end

-- Where a job may go from where it is: to a fallback of this route, else, for a guest, to one that
-- comes after this route in the list of the one it was asked of.
local function way_on(record, gate, now)
  local asked = record.asked_route and read_gate(record.asked_route)
  return fallback_of(gate, now) or asked and fallback_of(asked, now, record.route)
end

local function reroute(job, record, to, reason)
  local key = KEY.job .. job
  redis.call('SREM', KEY.guests .. record.route, job)
  redis.call('ZREM', KEY.pressed .. record.route, job)
  redis.call('HSETNX', key, 'asked_route', record.route)
  redis.call('HSET', key, 'route', to, 'route_reason', reason)
  redis.call('SADD', KEY.guests .. to, job)
  record.route, record.asked_route = to, record.asked_route or record.route
end

-- score: the place in the line, which the job keeps.
local function divert(job, record, to, reason, score, now)
  redis.call('ZREM', KEY.backlog .. record.route .. ':' .. record.tenant, job)
  redis.call('ZREM', KEY.suspects .. record.route, job)
  reroute(job, record, to, reason)
  place(job, record, score)
  emit(job, record.attempt, next_n(job, record.attempt), 'queued', now,
    queued_data(to, record.tenant, record.priority))
end

-- A job that has to be tried again though its route was not busy but failed: from its second attempt
-- on it is tried elsewhere. For one that is scheduled, so that it stands in no line yet.
local PATIENCE = 2
local function try_elsewhere(job, record, now)
  local gate = tonumber(record.attempt) - record.excused >= PATIENCE and read_gate(record.route)
  local to = gate and way_on(record, gate, now)
  if to then reroute(job, record, to, 'attempts_failed') end
end
