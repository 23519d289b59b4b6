#!lua flags=allow-oom
-- How a route and its gate stand, for whoever looks on. Changes nothing.
-- include: clock, gate, window, traffic
--
-- KEYS  none
-- ARGV  1 route  2 how many tenants to name  3 how many tenants to count
-- reply {} for a route that no worker has published, else {about, tenants, traffic, traffic}:
--       about: name, value...  tenants: those with the longest backlogs, name, jobs...
--       traffic: of this minute and the one before, name, count... (see traffic.lua)

local route, named, counted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local gate, now = read_gate(route), clock()
if not gate then return {} end

-- Where there are more tenants than are counted, those stand for the others.
local function backlogs()
  local names = redis.call('ZRANGE', KEY.turns .. route, 0, counted - 1)
  for _, name in ipairs(redis.call('ZRANGE', KEY.parked .. route, 0, counted - 1)) do
    names[#names + 1] = name
  end
  local lines, total = {}, 0
  for _, name in ipairs(names) do
    local jobs = redis.call('ZCARD', KEY.backlog .. route .. ':' .. name)
    if jobs > 0 then lines[#lines + 1] = { name, jobs } end
    total = total + jobs
  end
  table.sort(lines, function(a, b) return a[2] > b[2] end)
  local all = redis.call('ZCARD', KEY.turns .. route) + redis.call('ZCARD', KEY.parked .. route)
  return lines, #names > 0 and math.floor(total * all / #names) or 0
end

local function minute(ago)
  return redis.call('HGETALL', traffic_key(route, math.floor(now / 60) - ago))
end

local lines, waiting = backlogs()
local tenants = {}
for i = 1, math.min(named, #lines) do
  tenants[#tenants + 1], tenants[#tenants + 2] = lines[i][1], lines[i][2]
end
local shown = redis.call('HMGET', KEY.gate .. route, 'requests_per_minute', 'model')
local about = {
  'now', stamp(now), 'configured', gate.concurrency, 'allowed', allowed_concurrency(gate, now),
  'in_use', redis.call('ZCARD', KEY.held .. route), 'waiting', waiting,
  'suspects', redis.call('ZCARD', KEY.suspects .. route),
  'workers', redis.call('ZCOUNT', KEY.serving .. route, stamp(now), '+inf'),
  'requests_per_minute', shown[1] or '',
  'tokens_per_minute', gate.tokens_per_minute or '',
  'tokens_in_window', gate.tokens_per_minute and window_total(KEY.window .. route, now, true) or '',
  'paused_until', stamp(gate.paused_until), 'open_until', stamp(gate.open_until or 0),
  'breaker', breaker_of(gate, now), 'model', shown[2] or '', 'fallback', gate.fallback or '',
}
return {about, tenants, minute(0), minute(1)}
