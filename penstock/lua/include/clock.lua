-- Redis's own clock, seconds since the epoch: worker clocks may be wrong.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- A time as text that keeps its microseconds (Lua's own conversion drops them).
local function stamp(time)
  return string.format('%.6f', time)
end
