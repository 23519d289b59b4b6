#!lua flags=allow-oom
-- Stops a job: at once where no worker has it, else by telling that worker.
-- include: clock, data, record, conclude
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 reason
-- reply {"cancelled"}      it is over
--       {"cancelling"}     its worker has been told, and will end it
--       {"over", state}    it had ended before
--       {"unknown"}

local id, reason = ARGV[1], ARGV[2]
local record = read_record(id)
if not record then return {'unknown'} end
if record.state == 'running' then
  redis.call('HSETNX', KEYS[1], 'cancel_reason', reason)
  redis.call('PUBLISH', KEY.control, cjson.encode({ cancel = id, reason = reason }))
  return {'cancelling'}
end
if redis.call('HEXISTS', KEYS[1], 'final') == 1 then return {'over', record.state} end
conclude(id, record, 'cancelled', next_n(id, record.attempt), clock(), cancelled_data(reason))
return {'cancelled'}
