-- Moves jobs from a route to its fallbacks: those that wait while its breaker is open, or that would
-- not be answered before their deadline, and those it has failed more than once. There they stand in
-- line like the fallback's own jobs.
-- include: clock, gate, outlook, place, emit, data, record

-- As many jobs as may run there may wait there as guests: the others stay where they were asked for,
-- in case that recovers first.
local function room_for_guests(route, now)
  local gate = read_gate(route)
  if not gate or gate.open_until or gate.paused_until > now then return 0 end
  return allowed_concurrency(gate, now) - redis.call('SCARD', KEY.guests .. route)
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
  redis.call('HSETNX', key, 'asked_route', record.route)
  redis.call('HSET', key, 'route', to, 'route_reason', reason)
  redis.call('SADD', KEY.guests .. to, job)
  record.route, record.asked_route = to, record.asked_route or record.route
end

-- score: the place in the line, which the job keeps.
local function divert(job, record, to, reason, score, now)
  redis.call('ZREM', KEY.backlog .. record.route .. ':' .. record.tenant, job)
  redis.call('ZREM', KEY.pressed .. record.route, job)
  reroute(job, record, to, reason)
  place(job, record, score)
  emit(job, record.attempt, next_n(job, record.attempt), 'queued', now,
    queued_data(to, record.tenant, record.priority))
end

-- Whether a job would be answered in time, were it to stand in another route's line.
local function is_in_time(record, to, score, now)
  local line = read_line(to, now)
  local rank = redis.call('ZCOUNT', KEY.backlog .. to .. ':' .. record.tenant, '-inf', '(' .. score)
  local _, wait = outlook_of(line, record.tenant, rank)
  return wait and now + wait + line.gate.seconds_mean < tonumber(record.deadline)
end

-- A job that will be too late goes where it will not be; another is looked at again when a quarter of
-- its slack is over.
local SOONEST = 1
local function look_at_deadline(job, record, wait, gate, now)
  local slack = tonumber(record.deadline) - now - (wait or 0) - gate.seconds_mean
  local score = redis.call('ZSCORE', KEY.backlog .. record.route .. ':' .. record.tenant, job)
  local to = slack < 0 and fallback_of(gate, now)
  if to and is_in_time(record, to, score, now) then
    return divert(job, record, to, 'deadline', score, now)
  end
  redis.call('ZADD', KEY.pressed .. record.route, stamp(now + math.max(SOONEST, slack / 4)), job)
end

-- Looks at the jobs with deadlines whose time to be looked at has come. most: how many.
local function look_at_deadlines(route, gate, most, now)
  local key = KEY.pressed .. route
  for _, job in ipairs(redis.call('ZRANGE', key, '-inf', stamp(now), 'BYSCORE', 'LIMIT', 0, most)) do
    local position, wait = outlook(job, now)
    redis.call('ZREM', key, job)
    if position then look_at_deadline(job, read_record(job), wait, gate, now) end
  end
end

-- A job that has to be tried again though its route was not busy but failed: from its second attempt
-- on it is tried elsewhere. For one that is scheduled, so that it stands in no line yet.
local PATIENCE = 2
local function try_elsewhere(job, record, now)
  local gate = tonumber(record.attempt) - record.excused >= PATIENCE and read_gate(record.route)
  local to = gate and way_on(record, gate, now)
  if to then reroute(job, record, to, 'attempts_failed') end
end

-- Guests leave a route that breaks; its own jobs wait there. most: how many.
local function send_guests_on(route, gate, most, now)
  for _, job in ipairs(redis.call('SRANDMEMBER', KEY.guests .. route, most)) do
    local record = read_record(job)
    local score = redis.call('ZSCORE', KEY.backlog .. route .. ':' .. record.tenant, job)
    local to = score and way_on(record, gate, now)
    if to then divert(job, record, to, 'breaker_open', score, now) end
  end
end
