#!lua flags=allow-oom
-- Somebody is at the door: what the key says, and whether it comes too often.
-- include: clock, meter, rate
--
-- The caller compares the digests too, in constant time. Here the comparison only keeps those who
-- know no more than a key's id from using its requests up; Lua compares strings by address.
--
-- KEYS  1 apikey:<id>
-- ARGV  1 id, "" where none was shown  2 digest of what was shown  3 rate of requests, see limits.py
-- reply {"open"}       no key was ever made
--       {"unknown"}    no such key, or it is revoked or expired; or none was shown
--       {"key", digest, tenant, scopes, wait}   wait: seconds until it may come again; 0: now

if redis.call('EXISTS', KEY.apikeys) == 0 then return {'open'} end
local f = redis.call('HMGET', KEYS[1], 'digest', 'tenant', 'scopes', 'expires_at')
local now = clock()
if not f[1] or (f[4] and tonumber(f[4]) <= now) then return {'unknown'} end

local rate, wait = read_rate(ARGV[3]), 0
if f[1] == ARGV[2] and rate.interval > 0 then
  local visits = KEY.visits .. ARGV[1]
  local paid = tonumber(redis.call('GET', visits) or 0)
  wait = meter_wait(rate, paid, 1, now)
  if wait == 0 then
    paid = meter_pay(rate, paid, 1, now)
    redis.call('SET', visits, stamp(paid), 'PXAT', math.ceil(paid * 1000) + 1)
  end
end
return {'key', f[1], f[2], f[3], stamp(wait)}
