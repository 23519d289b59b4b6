-- Jobs of one conversation run one at a time, in the order in which they came: the first of its line
-- is the only one that stands in a backlog, or runs; the others wait in the line.
-- include: clock, place, record
local function line_of(tenant, conversation)
  return KEY.conversation .. tenant .. ':' .. conversation
end

-- Puts a job where it waits: into its tenant's backlog, unless others of its conversation are first.
-- score: its place in the backlog.
local function queue_up(job, record, score, now)
  if record.conversation ~= '' then
    local line = line_of(record.tenant, record.conversation)
    redis.call('ZADD', line, 'NX', stamp(now), job)
    if redis.call('ZRANGE', line, 0, 0)[1] ~= job then return end
  end
  place(job, record, score)
end

-- Takes a job that has ended out of its line; if it was the first, the next one gets a place.
local function leave_line(job, record)
  if record.conversation == '' then return end
  local line = line_of(record.tenant, record.conversation)
  local was_first = redis.call('ZRANGE', line, 0, 0)[1] == job
  redis.call('ZREM', line, job)
  local next_job = was_first and redis.call('ZRANGE', line, 0, 0)[1]
  local following = next_job and read_record(next_job)
  if following and following.state == 'queued' then
    place(next_job, following, following.arrival)
  end
end
