#!lua flags=allow-oom
-- Moves waiting jobs from a route to its fallbacks: while its breaker is open, and where they would be
-- answered after their deadline. Every worker asks for it, again and again.
-- include: clock, gate, tenant, outlook, divert
--
-- KEYS  1 gate:<route>  2 turns:<route>  3 served:<route>
-- ARGV  1 route  2 how many of each kind, at most
-- reply how many went

local route, most = ARGV[1], tonumber(ARGV[2])
local gate, now, gone = read_gate(route), clock(), 0
if not gate then return 0 end

local function go(job, record, to, reason, score)
  divert(job, record, to, reason, score, now)
  gone = gone + 1
end

-- The next tenant's turn. One that is at its own limits at the fallback would only fill the room.
local function next_turn(to)
  local turns = redis.call('ZRANGE', KEYS[2], 0, most, 'WITHSCORES')
  for i = 1, #turns, 2 do
    if not redis.call('ZSCORE', KEY.parked .. to, turns[i]) then return turns[i], tonumber(turns[i + 1]) end
  end
end

-- While the breaker is open jobs go in the order in which they would have been served.
local function send_in_turn()
  local to, room = fallback_of(gate, now)
  for _ = 1, math.min(room or 0, most) do
    local name, turn = next_turn(to)
    if not name then return end
    local jobs = redis.call('ZRANGE', KEY.backlog .. route .. ':' .. name, 0, 1, 'WITHSCORES')
    if #jobs > 0 then go(jobs[1], read_record(jobs[1]), to, 'breaker_open', jobs[2]) end
    local moved = stamp(turn + math.max(gate.tokens_mean, 1) / read_tenant(name).weight)
    redis.call('ZADD', KEYS[#jobs > 2 and 2 or 3], moved, name)
    if #jobs <= 2 then redis.call('ZREM', KEYS[2], name) end
  end
end

-- Suspects run one by one, so a fallback takes the next one when none waits there.
local function send_suspect()
  local first, to = redis.call('ZRANGE', KEY.suspects .. route, 0, 0, 'WITHSCORES'), fallback_of(gate, now)
  if #first == 0 or not to or redis.call('EXISTS', KEY.suspects .. to) == 1 then return end
  go(first[1], read_record(first[1]), to, 'breaker_open', first[2])
end

-- Guests leave a route that breaks too; its own jobs wait there.
local function send_guests_on()
  for _, job in ipairs(redis.call('SRANDMEMBER', KEY.guests .. route, most)) do
    local record = read_record(job)
    local score = redis.call('ZSCORE', KEY.backlog .. route .. ':' .. record.tenant, job)
    local to = score and way_on(record, gate, now)
    if to then go(job, record, to, 'breaker_open', score) end
  end
end

-- Whether a job would be answered in time, were it to stand in another route's line.
local function is_in_time(record, to, score)
  local line = read_line(to, now)
  local rank = redis.call('ZCOUNT', KEY.backlog .. to .. ':' .. record.tenant, '-inf', '(' .. score)
  local _, wait = outlook_of(line, record.tenant, rank)
  return wait and now + wait + line.gate.seconds_mean < tonumber(record.deadline)
end

-- A job that will be too late goes where it will not be; another is looked at again when a quarter of
-- its slack is over.
local SOONEST = 1
local function look_at_deadline(job, record, wait)
  local slack = tonumber(record.deadline) - now - (wait or 0) - gate.seconds_mean
  local score = redis.call('ZSCORE', KEY.backlog .. record.route .. ':' .. record.tenant, job)
  for to in string.gmatch(slack < 0 and gate.fallback or '', '%S+') do
    if room_for_guests(to, now) > 0 and is_in_time(record, to, score) then
      return go(job, record, to, 'deadline', score)
    end
  end
  redis.call('ZADD', KEY.pressed .. record.route, stamp(now + math.max(SOONEST, slack / 4)), job)
end

-- Looks at the jobs with deadlines whose time to be looked at has come.
local function look_at_deadlines()
  local key = KEY.pressed .. route
  for _, job in ipairs(redis.call('ZRANGE', key, '-inf', stamp(now), 'BYSCORE', 'LIMIT', 0, most)) do
    local position, wait = outlook(job, now)
    redis.call('ZREM', key, job)
    if position then look_at_deadline(job, read_record(job), wait) end
  end
end

-- A breaker that is half open needs one job to try with: nothing leaves until that runs, unless none may
-- run yet.
local function wants_probe()
  if gate.open_until > now or gate.paused_until > now then return false end
  if redis.call('ZCARD', KEY.held .. route) >= gate.concurrency then return false end
  return not (gate.probe and redis.call('ZSCORE', KEY.held .. route, gate.probe))
end

if gate.open_until and not wants_probe() then
  if gate.fallback ~= '' then
    send_suspect()
    send_in_turn()
  end
  send_guests_on()
end
if gate.fallback ~= '' then look_at_deadlines() end
return gone
