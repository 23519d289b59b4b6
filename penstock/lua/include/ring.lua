-- Celery's message for a job: what Celery itself made, with the names filled in.

-- The message's parts: in turn a text, and the name of what stands behind it; false: no worker of this
-- version has ever started.
local function read_ring()
  local parts = redis.call('HGET', KEY.dispatch, 'parts')
  return parts and { cmsgpack.unpack(parts) }
end

-- number: one that no other message of this job has; the delivery tag must be unique.
local function message(ring, job, route, number)
  local values = { job = job, route = route, tag = job .. '.' .. number }
  local parts = { unpack(ring) }
  for i = 2, #parts, 2 do parts[i] = values[parts[i]] end
  return table.concat(parts)
end

-- Seconds until an admitted job that nobody claims is rung again: 5, 10, 20, at most 60.
local FIRST_PATIENCE = 5
local function patience(rings)
  return math.min(FIRST_PATIENCE * 2 ^ (rings - 1), 60)
end
