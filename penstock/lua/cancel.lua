#!lua flags=allow-oom
-- Stops a job: at once where no worker has it, else by telling that worker.
-- include: clock, record, stop
--
-- KEYS  1 job:<id>
-- ARGV  1 id  2 reason
-- reply {"cancelled"}      it is over
--       {"cancelling"}     its worker has been told, and will end it
--       {"over", state}    it had ended before
--       {"unknown"}

local record = read_record(ARGV[1])
if not record then return {'unknown'} end
return {stop(ARGV[1], record, ARGV[2], clock()), record.state}
