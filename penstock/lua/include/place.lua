-- A waiting job's place: its arrival, brought forward by its priority. One step of priority is worth
-- an hour of waiting, so a job of priority p starts before every job of priority q < p that came up
-- to (p - q) hours earlier, and none waits for later ones longer than nine hours.
-- include: clock
local AGEING = 3600
local function arrival_of(available_at, priority)
  return stamp(available_at - priority * AGEING)
end

-- Puts a job into its tenant's backlog. score: its place there.
-- A tenant that waits for its turn already keeps its place; one that wakes up starts at the gate's
-- virtual time, so it gets no credit for having slept, or where its last job ended, if that is later:
-- else a tenant with one job at a time would always be first.
-- recoveries: how often it has lost its worker. On its last chance it is a suspect: see keys.py.
local MAX_RECOVERIES = 3
local has_turn = {}
local function place(job, route, tenant, score, recoveries)
  if recoveries >= MAX_RECOVERIES then return redis.call('ZADD', KEY.suspects .. route, score, job) end
  local backlog = KEY.backlog .. route .. ':' .. tenant
  redis.call('ZADD', backlog, score, job)
  if has_turn[backlog] then return end
  has_turn[backlog] = true
  local virtual_time = tonumber(redis.call('HGET', KEY.gate .. route, 'virtual_time') or 0)
  local served = tonumber(redis.call('ZSCORE', KEY.served .. route, tenant) or 0)
  redis.call('ZADD', KEY.turns .. route, 'NX', stamp(math.max(virtual_time, served)), tenant)
end
