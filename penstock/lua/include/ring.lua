-- Celery's message for a job: what Celery itself made, with the names filled in.

-- ring: the message's parts, which the gate of its route has as MessagePack: see publish.lua. number:
-- one that no other message of this job has; the delivery tag must be unique.
local function message(ring, job, number)
  local values, parts = { job = job, tag = job .. '.' .. number }, { unpack(ring) }
  for i = 2, #parts, 2 do parts[i] = values[parts[i]] end
  return table.concat(parts)
end

-- Seconds until an admitted job that nobody claims is rung again: 5, 10, 20, at most 60.
local FIRST_PATIENCE = 5
local function patience(rings)
  return math.min(FIRST_PATIENCE * 2 ^ (rings - 1), 60)
end
