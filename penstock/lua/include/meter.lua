-- A meter limits a rate, of requests or of tokens. It is one number, `paid`: the time at which all
-- that was let through will have been paid for at the allowed rate (GCRA's theoretical arrival
-- time). rate: see rate.lua.

-- Seconds until this much may pass; 0: now. What costs more than the slack passes a meter that is
-- paid up, so a job larger than the whole limit still runs, and the next one waits for it.
local function meter_wait(rate, paid, cost, now)
  if rate.interval == 0 or paid <= now then return 0 end
  local ahead = paid + cost * rate.interval - now - rate.slack
  return math.max(0, math.min(ahead, paid - now))
end

-- `paid` after this much has passed.
local function meter_pay(rate, paid, cost, now)
  if rate.interval == 0 then return 0 end
  return math.max(paid, now) + cost * rate.interval
end
