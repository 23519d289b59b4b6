-- What tenants may spend, in USD a day and a month (UTC), and what they have.
-- include: clock, calendar

-- USD as text: a token of a cheap model costs some ten billionths.
local function money(usd)
  return string.format('%.12f', usd)
end

-- What a job of so many tokens is expected to cost. tier: as tier.lua has it; nil: the default.
local function expected_usd(gate, prompt, output, tier)
  return (prompt * gate.price_input + output * gate.price_output) * (tier and tier.factor or 1)
end

-- What a tenant has spent in the periods of this time, with what is reserved.
local function read_spent(tenant, now)
  local f = redis.call('HMGET', KEY.tenant .. tenant, 'day', 'day_usd', 'month', 'month_usd')
  return {
    day = f[1] == date_of(now) and tonumber(f[2]) or 0,
    month = f[3] == month_of(now) and tonumber(f[4]) or 0,
  }
end

local function has_budget(limits)
  return limits.budget_day > 0 or limits.budget_month > 0
end

local function is_over(budget, spent, usd)
  return budget > 0 and spent > 0 and (spent + usd > budget or spent >= budget)
end

-- The period whose budget has no room for a job of this cost, nil where there is. One that costs more
-- than a whole budget passes where nothing was spent yet: else it would wait for ever.
local function spent_period(limits, spent, usd)
  if is_over(limits.budget_month, spent.month, usd) then return 'month' end
  if is_over(limits.budget_day, spent.day, usd) then return 'day' end
end

-- When the budget lets a job of this cost pass; nil: now.
local function budget_until(limits, spent, usd, now)
  local period = spent_period(limits, spent, usd)
  if period == 'month' then return next_month(now) end
  if period == 'day' then return next_day(now) end
end

local LONGEST_MONTH = 31 * DAY

-- usd: what is spent more, or less. since: when that which it settles was reserved; a period that has
-- turned meanwhile has nothing to give back.
local function spend(tenant, usd, reserved, since, now)
  local spent = read_spent(tenant, now)
  local today, month = date_of(now), month_of(now)
  local day_back = date_of(since) == today and reserved or 0
  local month_back = month_of(since) == month and reserved or 0
  local key = KEY.tenant .. tenant
  redis.call('HSET', key, 'day', today, 'month', month,
    'day_usd', money(math.max(0, spent.day + usd - day_back)),
    'month_usd', money(math.max(0, spent.month + usd - month_back)))
  if spent.day == 0 then redis.call('EXPIRE', key, LONGEST_MONTH) end  -- once a day is enough
end
