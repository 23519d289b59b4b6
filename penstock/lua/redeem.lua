#!lua flags=no-writes
-- What a stream token may read.
--
-- KEYS  1 streamtoken:<digest>
-- ARGV  none
-- reply "<tenant> <id of the job>", or nothing

return redis.call('GET', KEYS[1])
