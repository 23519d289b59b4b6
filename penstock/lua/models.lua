#!lua flags=allow-oom
-- The model of each route that workers have published. Changes nothing.
--
-- KEYS  none
-- ARGV  none
-- reply route, model...

local reply = {}
for _, route in ipairs(redis.call('SMEMBERS', KEY.routes)) do
  local model = redis.call('HGET', KEY.gate .. route, 'model')
  if model then reply[#reply + 1], reply[#reply + 2] = route, model end
end
return reply
