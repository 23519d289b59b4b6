#!lua flags=allow-oom
-- The worker that runs a job ends it: completed, failed or cancelled.
-- include: clock, record, conclude
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 attempt  3 state  4 n of the terminal event  5 its data (JSON)
-- reply {"finished", state}   also when the same call came before
--       {"stale", state}      the attempt is not the running one: its outcome does not count

local id, attempt, state = ARGV[1], ARGV[2], ARGV[3]
local record = read_record(id)
if not record then return {'stale', 'unknown'} end
if record.state == state and record.attempt == attempt then return {'finished', state} end
if record.state ~= 'running' or record.attempt ~= attempt then return {'stale', record.state} end
conclude(id, record, state, ARGV[4], clock(), ARGV[5])
return {'finished', state}
