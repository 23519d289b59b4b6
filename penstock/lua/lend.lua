#!lua
-- Lets whoever holds a token read one job's events for a while.
--
-- KEYS  1 streamtoken:<digest>
-- ARGV  1 tenant  2 id of the job  3 seconds
-- reply "lent"

redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EX', ARGV[3])
return 'lent'
