-- Celery's message for a job: the template that Celery itself made, with the names filled in.
-- ring: a number that no other message of this job has; the delivery tag must be unique.
local function message(template, job, route, ring)
  local names = { job = job, route = route, tag = job .. '.' .. ring }
  local pieces, from = {}, 1
  while true do  -- a plain find is several times as fast as a pattern
    local open = string.find(template, '@@', from, true)
    if not open then break end
    local close = string.find(template, '@@', open + 2, true)
    pieces[#pieces + 1] = string.sub(template, from, open - 1)
    pieces[#pieces + 1] = names[string.sub(template, open + 2, close - 1)]
    from = close + 2
  end
  return table.concat(pieces) .. string.sub(template, from)
end

-- Seconds until an admitted job that nobody claims is rung again: 5, 10, 20, at most 60.
local function patience(rings)
  return math.min(5 * 2 ^ (rings - 1), 60)
end
