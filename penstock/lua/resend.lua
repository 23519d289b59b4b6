#!lua
-- Sends a delivery again, by hand: at once, and with all its tries; a disabled endpoint is called again.
-- include: clock, endpoint
--
-- KEYS  1 delivery:<id>
-- ARGV  1 id  2 a token that no other call has
-- reply {"waiting"}   also when the same call came before
--       {"unknown"}

local f = redis.call('HMGET', KEYS[1], 'tenant', 'url', 'resent')
if not f[1] then return {'unknown'} end
if f[3] == ARGV[2] then return {'waiting'} end
redis.call('HSET', KEYS[1], 'state', 'waiting', 'tries', 0, 'resent', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'claims', 1)  -- whoever has it now has it no more
redis.call('PERSIST', KEYS[1])
redis.call('DEL', endpoint_key(f[1], f[2]))
redis.call('ZREM', KEY.retained, f[1] .. '/' .. ARGV[1])
redis.call('ZADD', KEY.webhooks, stamp(clock()), ARGV[1])
return {'waiting'}
