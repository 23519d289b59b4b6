-- What the limits of tenants let through, and what that takes off them. Made when the first tenant that
-- has any asks; limits: as tenant.lua reads them, of one that has.
-- include: clock, number
local function open_tenant_limits(gate, now)
  -- include: meter, window, budget

  local function tokens_wait(name, limits, tokens)
    if limits.tokens_per_minute == 0 then return 0 end
    limits.in_window = limits.in_window or window_total(KEY.tenantwindow .. name, now)
    return math.max(window_wait(limits.in_window, tokens, limits.tokens_per_minute),
      meter_wait(limits.tokens, limits.tokens_paid, tokens, now))
  end

  -- What a job of a tenant with a budget reserves.
  local function cost_of(expected)
    return expected_usd(gate, expected.prompt, expected.output, expected.tier)
  end

  -- When they let the tenant's next job through; nil: now.
  local function blocked_until(name, limits, expected)
    if limits.concurrency > 0 and redis.call('SCARD', KEY.running .. name) >= limits.concurrency then
      return math.huge
    end
    local wait = math.max(meter_wait(limits.requests, limits.requests_paid, 1, now),
      tokens_wait(name, limits, expected.tokens))
    if wait > 0 then return now + wait end
    if not has_budget(limits) then return nil end
    return budget_until(limits, read_spent(name, now), cost_of(expected), now)
  end

  local function pay(job, name, limits, expected)
    local tokens = expected.tokens
    if limits.tokens_per_minute > 0 then
      limits.in_window = limits.in_window + tokens
      window_add(KEY.tenantwindow .. name, now, tokens, now)
    end
    limits.requests_paid = meter_pay(limits.requests, limits.requests_paid, 1, now)
    limits.tokens_paid = meter_pay(limits.tokens, limits.tokens_paid, tokens, now)
    redis.call('HSET', KEY.tenant .. name, 'requests_paid', stamp(limits.requests_paid),
      'tokens_paid', stamp(limits.tokens_paid))
    if has_budget(limits) then
      local usd = cost_of(expected)
      spend(name, usd, 0, now, now)
      redis.call('HSET', KEY.job .. job, 'reserved_usd', money(usd))
    end
  end

  return { blocked_until = blocked_until, pay = pay }
end
