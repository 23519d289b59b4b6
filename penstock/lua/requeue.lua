#!lua flags=allow-oom
-- The worker that runs a job gives it back: for a retry, or because the worker stops.
-- include: clock, record, restart
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 attempt  3 reason  4 delay in seconds
--       5 "retry": the attempt counts | "handback": it does not, and the job goes to the front
-- reply {"queued" | "scheduled"}   also when the same call came before
--       {"cancelled", reason}      somebody has asked for that: end it so
--       {"stale", state}           the attempt is not the running one

local id, attempt, handback = ARGV[1], ARGV[2], ARGV[5] == 'handback'
local record = read_record(id)
if not record then return {'stale', 'unknown'} end
if redis.call('HGET', KEYS[1], 'given_back') == attempt then return {'queued'} end
if record.state ~= 'running' or record.attempt ~= attempt then return {'stale', record.state} end
if record.cancel_reason then return {'cancelled', record.cancel_reason} end
redis.call('HSET', KEYS[1], 'given_back', attempt)
if handback then redis.call('HINCRBY', KEYS[1], 'excused', 1) end
local score = handback and front(record) or record.arrival
return {restart(id, record, clock(), ARGV[3], tonumber(ARGV[4]), score)}
