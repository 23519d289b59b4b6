-- Celery's message for a job: the template that Celery itself made, with the names filled in.
-- ring: a number that no other message of this job has; the delivery tag must be unique.
local function message(template, job, route, ring)
  local names = { job = job, route = route, tag = job .. '.' .. ring }
  return (string.gsub(template, '@@(%l+)@@', names))
end

-- Seconds until an admitted job that nobody claims is rung again: 5, 10, 20, at most 60.
local function patience(rings)
  return math.min(5 * 2 ^ (rings - 1), 60)
end
