#!lua flags=allow-oom
-- The worker that runs a job gives it back: for a retry, or because the worker stops.
-- include: clock, record, feedback, restart, divert
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 holder  3 reason  4 delay in seconds
--       5 "retry": the attempt counts | "handback": it does not, and the job goes to the front
--       6 to 9 what was used, see usage.lua
--       10 what it says about the upstream, see feedback.lua  11 seconds the upstream asks to wait
-- reply {"queued" | "scheduled", news...}   also when the same call came before; news of the gate
--       {"cancelled", reason}      somebody has asked for that: end it so
--       {"stale", state}           another claim has it, or nobody

local id, holder, handback = ARGV[1], ARGV[2], ARGV[5] == 'handback'
local record = read_record(id)
if not record then return {'stale', 'unknown'} end
if redis.call('HGET', KEYS[1], 'given_back') == holder then return {'queued'} end
if record.state ~= 'running' or record.holder ~= holder then return {'stale', record.state} end
if record.cancel_reason then return {'cancelled', record.cancel_reason} end
redis.call('HSET', KEYS[1], 'given_back', holder)
local now, delay = clock(), tonumber(ARGV[4])
local news = feed_back(id, record, ARGV[10], tonumber(ARGV[11]), now) or {}
local score = record.arrival
if handback then
  redis.call('HINCRBY', KEYS[1], 'excused', 1)
  score = front(record)
  if ARGV[6] == '' then record.state = 'admitted' end  -- nothing came of it: it costs no turn
else
  delay = math.max(delay, retry_wait(record.route, now))
end
local state = restart(id, record, now, ARGV[3], delay, score, read_used(6))
if state == 'scheduled' and (ARGV[10] == 'broken' or ARGV[10] == 'down') then try_elsewhere(id, record, now) end
return {state, unpack(news)}
