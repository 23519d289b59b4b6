-- A tenant's limits as the settings publish them, and what it has used.
-- include: rate
local EVERYBODY = '*'

local unlimited_tenant = { has_any = false, weight = 1, max_waiting = 0 }

-- has_any: whether the settings say anything of this tenant, or of all. Only then: concurrency (0: no limit),
-- requests and tokens (rates) and what was paid for, tokens_per_minute (0: no limit), budgets in USD
-- (0: none), and whether what is over budget is rejected. Always: weight, and how many jobs may wait
-- (0: any number).
local function read_tenant(tenant)
  local limits = redis.call('HMGET', KEY.limits, tenant, EVERYBODY)
  local text = limits[1] or limits[2]
  if not text then return unlimited_tenant end
  local weight, concurrency, requests, tokens, day, month, over, waiting =
    string.match(text, '^(%S+) (%S+) (%S+ %S+) (%S+ %S+) (%S+) (%S+) (%S+) (%S+)$')
  local paid = redis.call('HMGET', KEY.tenant .. tenant, 'requests_paid', 'tokens_paid')
  local rate = read_rate(tokens)
  return {
    has_any = true, weight = tonumber(weight), concurrency = tonumber(concurrency),
    requests = read_rate(requests), tokens = rate,
    tokens_per_minute = rate.interval > 0 and math.floor(60 / rate.interval + 0.5) or 0,
    requests_paid = tonumber(paid[1] or 0), tokens_paid = tonumber(paid[2] or 0),
    budget_day = tonumber(day), budget_month = tonumber(month), rejects = over == 'reject',
    max_waiting = tonumber(waiting),
  }
end

-- The same, read once in a script, which keeps it up to date.
local tenants_read = {}
local function limits_of(tenant)
  tenants_read[tenant] = tenants_read[tenant] or read_tenant(tenant)
  return tenants_read[tenant]
end
