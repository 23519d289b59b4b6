-- What the limits of tenants let through, and what that takes off them; and the tenants that are at theirs,
-- which are parked beside the line. Made where any tenant has limits or is parked yet, or suspects wait.
-- include: clock, number, rate
local function open_limited_tenants(route, gate, now)
  -- include: tenant, meter, window, budget, place
  local turns, served, parked = KEY.turns .. route, KEY.served .. route, KEY.parked .. route

  local function weight(name)
    return limits_of(name).weight
  end

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

  -- When its limits let the tenant's next job through; nil: now.
  local function blocked_until(name, expected)
    local limits = limits_of(name)
    if not limits.has_any then return nil end
    if limits.concurrency > 0 and redis.call('SCARD', KEY.running .. name) >= limits.concurrency then
      return math.huge
    end
    local wait = math.max(meter_wait(limits.requests, limits.requests_paid, 1, now),
      tokens_wait(name, limits, expected.tokens))
    if wait > 0 then return now + wait end
    if not has_budget(limits) then return nil end
    return budget_until(limits, read_spent(name, now), cost_of(expected), now)
  end

  local function pay(job, name, expected)
    local limits, tokens = limits_of(name), expected.tokens
    if not limits.has_any then return end
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

  local function park(name, turn, until_time)
    redis.call('ZREM', turns, name)
    redis.call('ZADD', served, stamp(turn), name)
    redis.call('ZADD', parked, until_time == math.huge and '+inf' or stamp(until_time), name)
  end

  -- Gives those their turns back that may have room, so many of them at most.
  local function unpark(most)
    local due = redis.call('ZRANGE', parked, '-inf', stamp(now), 'BYSCORE', 'LIMIT', 0, most)
    for _, name in ipairs(due) do
      redis.call('ZREM', parked, name)
      join_turns(route, name)
    end
  end

  -- Seconds until the first may have room; nil where that takes a job's end.
  local function parked_wait()
    local first = redis.call('ZRANGE', parked, '0', '0', 'WITHSCORES')
    local due = tonumber(first[2] or math.huge)
    return due < math.huge and due - now or nil
  end

  return { weight = weight, blocked_until = blocked_until, pay = pay, park = park, unpark = unpark,
    parked_wait = parked_wait }
end
