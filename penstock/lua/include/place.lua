-- A waiting job's place: its arrival, brought forward by its priority. One step of priority is worth
-- an hour of waiting, so a job of priority p starts before every job of priority q < p that came up
-- to (p - q) hours earlier, and none waits for later ones longer than nine hours.
-- include: clock
local AGEING = 3600
local function arrival_of(available_at, priority)
  return stamp(available_at - priority * AGEING)
end

-- Where a tenant that wakes up starts: beside the one that is furthest behind, so that it has no
-- credit for having slept; where nobody waits, at the start of the job that was served last.
local function virtual_now(route)
  local first = redis.call('ZRANGE', KEY.turns .. route, 0, 0, 'WITHSCORES')
  local virtual_time = tonumber(redis.call('HGET', KEY.gate .. route, 'virtual_time') or 0)
  return first[2] and math.min(tonumber(first[2]), virtual_time) or virtual_time
end

-- Gives a tenant its turn. One that has it, or is parked, keeps its place. One that wakes up does not
-- start before its last job ended: else a tenant with one job at a time would always be first.
-- Those that wake up at the same virtual time stand a hair of a token behind each other, in the order
-- in which they came: Redis would order them by name, and a late name might never have its turn. The
-- hairs never add up to more than SPREAD tokens.
local HAIR, SPREAD = 0.001, 100
local function join_turns(route, tenant)
  local turns, gate = KEY.turns .. route, KEY.gate .. route
  if redis.call('ZSCORE', turns, tenant) or redis.call('ZSCORE', KEY.parked .. route, tenant) then
    return
  end
  local turn = virtual_now(route)
  local joined = tonumber(redis.call('HGET', gate, 'joined') or 0) + HAIR
  if joined > turn and joined < turn + SPREAD then turn = joined end
  redis.call('HSET', gate, 'joined', stamp(turn))
  local served = tonumber(redis.call('ZSCORE', KEY.served .. route, tenant) or 0)
  redis.call('ZADD', turns, stamp(math.max(turn, served)), tenant)
end

-- Jobs with a deadline are looked at again while they wait, where another route might take them.
local has_fallback = {}
local function press(job, route)
  if has_fallback[route] == nil then
    has_fallback[route] = (redis.call('HGET', KEY.gate .. route, 'fallback') or '') ~= ''
  end
  if has_fallback[route] then redis.call('ZADD', KEY.pressed .. route, 0, job) end
end

-- Puts a job into its tenant's backlog. score: its place there. One that has lost its worker three
-- times is on its last chance, and a suspect: see keys.py.
local MAX_RECOVERIES = 3
local has_turn = {}
local function place(job, record, score)
  local route, tenant = record.route, record.tenant
  if record.recoveries >= MAX_RECOVERIES then
    return redis.call('ZADD', KEY.suspects .. route, score, job)
  end
  local backlog = KEY.backlog .. route .. ':' .. tenant
  redis.call('ZADD', backlog, score, job)
  if record.deadline ~= '' then press(job, route) end
  if has_turn[backlog] then return end
  has_turn[backlog] = true
  join_turns(route, tenant)
end
