-- What the limits of a route let through, and what that takes off them. Made for the routes that have any,
-- and for one whose limits went, until what it paid is forgotten.
-- include: clock, number
local function open_route_limits(route, gate, now)
  -- include: meter, window
  local in_window = gate.tokens_per_minute and window_total(KEY.window .. route, now)

  -- Seconds they ask to wait for a job of so many tokens.
  local function wait_for(tokens)
    return math.max(in_window and window_wait(in_window, tokens, gate.tokens_per_minute) or 0,
      meter_wait(gate.requests, gate.requests_paid, 1, now),
      meter_wait(gate.tokens, gate.tokens_paid, tokens, now))
  end

  local function pay(tokens)
    if in_window then
      in_window = in_window + tokens
      window_add(KEY.window .. route, now, tokens, now)
    end
    gate.requests_paid = meter_pay(gate.requests, gate.requests_paid, 1, now)
    gate.tokens_paid = meter_pay(gate.tokens, gate.tokens_paid, tokens, now)
  end

  local function save()
    redis.call('HSET', gate.key, 'requests_paid', stamp(gate.requests_paid),
      'tokens_paid', stamp(gate.tokens_paid))
  end

  return { wait_for = wait_for, pay = pay, save = save }
end
