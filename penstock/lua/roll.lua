#!lua flags=no-writes
-- Lists the API keys ever made, oldest first.
--
-- KEYS  1 apikeys
-- ARGV  none
-- reply {{id, field, value...}...}

local roll = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  roll[#roll + 1] = { id, unpack(redis.call('HGETALL', KEY.apikey .. id)) }
end
return roll
