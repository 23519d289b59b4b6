#!lua flags=allow-oom
-- Takes an API key back. Its record stays, without the digest that would let it in.
-- include: clock
--
-- KEYS  1 apikey:<id>
-- ARGV  none
-- reply {"revoked"}   also when it was before
--       {"unknown"}

if redis.call('EXISTS', KEYS[1]) == 0 then return {'unknown'} end
redis.call('HSETNX', KEYS[1], 'revoked_at', stamp(clock()))
redis.call('HDEL', KEYS[1], 'digest')
return {'revoked'}
