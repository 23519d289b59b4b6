#!lua flags=allow-oom
-- The worker that runs a job ends it: completed, failed or cancelled.
-- include: clock, record, feedback, conclude, learn, traffic
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 holder  3 state  4 n of the terminal event  5 its data (JSON)
--       6 to 9 what was used, see usage.lua
--       10 what it says about the upstream, see feedback.lua  11 seconds the upstream asks to wait
--       12 seconds to the first token, "" where none came
-- reply {"finished", news...}   also when the same call came before; news of the gate, for the log
--       {"stale", state}        another claim has it, or nobody: this outcome does not count

local id, holder, state = ARGV[1], ARGV[2], ARGV[3]
local record = read_record(id)
if not record then return {'stale', 'unknown'} end
if record.state == state and record.holder == holder then return {'finished'} end
if record.state ~= 'running' or record.holder ~= holder then return {'stale', record.state} end

local now, used = clock(), read_used(6)
local news = feed_back(id, record, ARGV[10], tonumber(ARGV[11]), now) or {}
conclude(id, record, state, ARGV[4], now, ARGV[5], used)
count_traffic(record.route, now, 'finished', 1, 'tokens', used and used.tokens or 0)
if ARGV[12] ~= '' then count_traffic(record.route, now, first_class(tonumber(ARGV[12])), 1) end
if used and state == 'completed' then
  learn(record.route, tonumber(used.answer), used.tokens, now - record.started_at)
end
return {'finished', unpack(news)}
