-- Redis's own clock, seconds since the epoch: worker clocks may be wrong.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- A time as text that keeps its microseconds (Lua's own conversion drops them). Two whole numbers are
-- written sooner than a fraction; beyond these bounds they would not be exact.
local function stamp(time)
  if time < 0 or time > 4000000000 then return string.format('%.6f', time) end
  local micros = math.floor(time * 1000000 + 0.5)
  local rest = micros % 1000000
  return string.format('%d.%06d', (micros - rest) / 1000000, rest)
end
