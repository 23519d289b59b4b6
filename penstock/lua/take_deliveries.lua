#!lua flags=allow-oom
-- A worker takes deliveries that are due, for as long as a lease: whose worker dies, or does not say
-- what became of it, is due again then.
-- include: clock, endpoint, end_delivery
--
-- KEYS  none
-- ARGV  1 lease in seconds  2 at most this many
-- reply {wait, {id, claim, field, value...}...}   wait: seconds until the next is due, "" where none
--       is; claim: the fence; fields as in keys.py

local lease, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock()

-- Where a failing endpoint has many deliveries those of others stand behind them: look further.
local LOOKED_AT = 4

-- Of deltas: all that the answer has grown by since the last delivery.
local function close_range(key, job)
  local f = redis.call('HMGET', key, 'type', 'until', 'after')
  if f[1] ~= 'delta' or f[2] then return end
  local attempt = string.match(f[3], '^%d+')
  local last = redis.call('XREVRANGE', KEY.feed .. job, attempt, f[3], 'COUNT', 1)[1]
  redis.call('HSET', key, 'until', last and last[1] or f[3])
  if redis.call('HGET', KEY.job .. job, 'delta_open') == attempt then
    redis.call('HSET', KEY.job .. job, 'delta_after', last and last[1] or f[3])
    redis.call('HDEL', KEY.job .. job, 'delta_open')
  end
end

local function take(id, key, job)
  close_range(key, job)
  local claim = redis.call('HINCRBY', key, 'claims', 1)
  redis.call('ZADD', KEY.webhooks, stamp(now + lease), id)
  return {id, claim, unpack(redis.call('HGETALL', key))}
end

local function look(id)
  local key = KEY.delivery .. id
  local f = redis.call('HMGET', key, 'tenant', 'url', 'job')
  if not f[1] then return redis.call('ZREM', KEY.webhooks, id) end
  local may = may_call(endpoint_key(f[1], f[2]), now)
  if may == 'yes' then return take(id, key, f[3]) end
  if may == 'never' then return end_delivery(id, f[1], 'disabled', now) end
  redis.call('ZADD', KEY.webhooks, stamp(now + CALM * (2 + math.random())), id)
end

local taken = {}
local due = redis.call('ZRANGE', KEY.webhooks, '-inf', stamp(now), 'BYSCORE', 'LIMIT', 0,
  most * LOOKED_AT)
for _, id in ipairs(due) do
  if #taken == most then break end
  local delivery = look(id)
  if type(delivery) == 'table' then taken[#taken + 1] = delivery end
end
local next_due = redis.call('ZRANGE', KEY.webhooks, 0, 0, 'WITHSCORES')[2]
return {next_due and stamp(math.max(0, tonumber(next_due) - now)) or '', unpack(taken)}
