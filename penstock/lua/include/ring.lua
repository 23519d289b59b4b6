-- Celery's message for a job: what Celery itself made, with the names filled in.

-- The message as string.format takes it, and the names that go into it in turn; false: no worker of
-- this version has ever started.
local function read_ring()
  local f = redis.call('HMGET', KEY.dispatch, 'format', 'names')
  return f[1] and { format = f[1], names = f[2] }
end

-- number: one that no other message of this job has; the delivery tag must be unique.
local function message(ring, job, route, number)
  local values, filled = { job = job, route = route, tag = job .. '.' .. number }, {}
  for name in string.gmatch(ring.names, '%a+') do filled[#filled + 1] = values[name] end
  return string.format(ring.format, unpack(filled))
end

-- Seconds until an admitted job that nobody claims is rung again: 5, 10, 20, at most 60.
local function patience(rings)
  return math.min(5 * 2 ^ (rings - 1), 60)
end
