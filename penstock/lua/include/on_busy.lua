-- What a new job does to the others of its conversation, by its `on_busy`:
-- enqueue: nothing, it waits. reject: it is refused. interrupt: the first one is cancelled.
-- replace: those that wait are cancelled.
-- include: clock, data, record, stop
local function make_way(tenant, conversation, on_busy, now)
  if on_busy == 'enqueue' then return nil end
  local jobs = redis.call('ZRANGE', line_of(tenant, conversation), 0, -1)
  if on_busy == 'reject' then return jobs[1] end
  for position, job in ipairs(jobs) do
    local record = read_record(job)
    local waits = record and (record.state == 'queued' or record.state == 'scheduled')
    if record and on_busy == 'interrupt' and position == 1 then stop(job, record, 'interrupted', now) end
    if waits and on_busy == 'replace' then stop(job, record, 'replaced', now) end
  end
end
