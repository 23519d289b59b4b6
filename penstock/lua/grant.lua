#!lua
-- Makes an API key of the gateway known, by its digest.
-- include: clock
--
-- KEYS  1 apikey:<id>
-- ARGV  1 id  2 digest  3 tenant  4 scopes  5 note  6 seconds until it expires, or ""
-- reply {"first"}    there was no key before: from now on the gateway asks for one
--       {"granted"}  there was; both also when the same call came before

local now = clock()
if redis.call('HSETNX', KEYS[1], 'created_at', stamp(now)) == 1 then
  redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'tenant', ARGV[3], 'scopes', ARGV[4], 'note', ARGV[5])
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'expires_at', stamp(now + tonumber(ARGV[6]))) end
  redis.call('ZADD', KEY.apikeys, stamp(now), ARGV[1])
end
return { redis.call('ZCARD', KEY.apikeys) == 1 and 'first' or 'granted' }
