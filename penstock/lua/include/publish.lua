-- A hash of short values only is kept as a list, whose fields are looked for one after the other; one
-- long value makes a gate a table, and admission a fifth cheaper.
local ABOUT = 'The limits of a route as its workers published them, and the state of its gate.'

-- Celery's message for a route's jobs, taken apart at the names to fill in, for every admission puts one
-- together: in turn a text, and the name of what stands behind it. As MessagePack.
local function ring_of(template, route)
  local parts, rest = {}, 1
  template = string.gsub(template, '@@route@@', route)  -- a name has no % in it
  for text, name, behind in string.gmatch(template, '(.-)@@(%a+)@@()') do
    parts[#parts + 1], parts[#parts + 2] = text, name
    rest = behind
  end
  parts[#parts + 1] = string.sub(template, rest)
  return cmsgpack.pack(unpack(parts))
end

-- Publishes the limits of tenants and routes, so that the gates obey them from now on.
--
-- at: where in ARGV stands how many tenants have limits; then for each: name, limits (see
-- tenant.lua), endpoint (see report.lua) or ""; then for each route: name, how many fields, and for
-- each field of its gate: name, value. What a gate should know and is not told is "".
local function publish(at)
  local routes = at + 1 + 3 * tonumber(ARGV[at])
  local template = redis.call('HGET', KEY.dispatch, 'template')
  redis.call('DEL', KEY.limits, KEY.endpoints)
  for i = at + 1, routes - 1, 3 do
    redis.call('HSET', KEY.limits, ARGV[i], ARGV[i + 1])
    if ARGV[i + 2] ~= '' then redis.call('HSET', KEY.endpoints, ARGV[i], ARGV[i + 2]) end
  end
  at = routes
  while at <= #ARGV do
    local gate, last = KEY.gate .. ARGV[at], at + 1 + 2 * tonumber(ARGV[at + 1])
    redis.call('SADD', KEY.routes, ARGV[at])
    redis.call('HSET', gate, 'about', ABOUT, unpack(ARGV, at + 2, last))
    if template then redis.call('HSET', gate, 'ring', ring_of(template, ARGV[at])) end
    for _, field in ipairs({ 'model', 'url' }) do redis.call('HSETNX', gate, field, '') end
    at = last + 1
  end
  for _, route in ipairs(redis.call('SMEMBERS', KEY.routes)) do  -- also those that are named no more
    for _, tenant in ipairs(redis.call('ZRANGE', KEY.parked .. route, 0, -1)) do
      redis.call('ZADD', KEY.parked .. route, 0, tenant)  -- its limits may be others now
    end
  end
end
