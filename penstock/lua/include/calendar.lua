-- Days and months in UTC, from seconds since the epoch: Redis gives scripts no calendar.
local DAY = 86400

-- Year, month and day of a time (days_from_civil turned round; Howard Hinnant,
-- https://howardhinnant.github.io/date_algorithms.html).
local function civil(time)
  local days = math.floor(time / DAY) + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  return year + era * 400 + (month <= 2 and 1 or 0), month, day
end

local dates = {}
local function date_of(time)
  local day = math.floor(time / DAY)
  dates[day] = dates[day] or string.format('%04d-%02d-%02d', civil(time))
  return dates[day]
end

local function month_of(time)
  return string.sub(date_of(time), 1, 7)
end

local function next_day(time)
  return (math.floor(time / DAY) + 1) * DAY
end

local function next_month(time)
  local month, day = month_of(time), next_day(time)
  while month_of(day) == month do day = day + DAY end
  return day
end
