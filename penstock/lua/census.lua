#!lua flags=no-writes
-- What waits, and what tenants have used today, for who watches. Changes nothing.
-- include: clock, tenant, budget
--
-- KEYS  none
-- ARGV  1 how many tenants to look at
-- reply {routes, tenants, webhooks, jobs that are left aside}
--       routes: {route, jobs that the route keeps waiting, that their tenants' limits do, suspects,
--           seconds}   see census.py
--       tenants: {name, waiting, jobs, prompt tokens, completion tokens, usd, spent in the day, its
--           budget, spent in the month, its budget}   budgets: 0 for none
--       webhooks: {under way, overdue, seconds}

local most, now = tonumber(ARGV[1]), clock()
local today = date_of(now)

local waiting, names = {}, {}
local function look_at(found)
  for _, name in ipairs(found) do
    if #names == most then return end
    if name ~= EVERYBODY and not waiting[name] then
      waiting[name], names[#names + 1] = 0, name
    end
  end
end

-- How long a job has been able to run.
local function waited(job)
  local f = redis.call('HMGET', KEY.job .. job, 'waiting_since', 'available_at', 'created_at')
  return now - tonumber(f[1] or f[2] or f[3] or now)
end

-- The jobs in the lines of the tenants that stand here, and how long the first of one has waited at
-- most. Where there are more tenants than are looked at, those stand for the others.
local function lines(route, place)
  local found = redis.call('ZRANGE', place .. route, 0, most - 1)
  local jobs, longest = 0, 0
  look_at(found)
  for _, name in ipairs(found) do
    local backlog = KEY.backlog .. route .. ':' .. name
    local count, first = redis.call('ZCARD', backlog), redis.call('ZRANGE', backlog, 0, 0)[1]
    jobs = jobs + count
    if first then longest = math.max(longest, waited(first)) end
    if waiting[name] then waiting[name] = waiting[name] + count end
  end
  local all = redis.call('ZCARD', place .. route)
  return #found > 0 and math.floor(jobs * all / #found) or 0, longest
end

-- What a tenant used today, over all routes.
local function used(name)
  local sums = { jobs = 0, prompt_tokens = 0, completion_tokens = 0, usd = 0 }
  local fields = redis.call('HGETALL', KEY.usage .. name .. ':' .. today)
  for i = 1, #fields, 2 do
    local what = string.match(fields[i], ' (.*)$')
    if sums[what] then sums[what] = sums[what] + tonumber(fields[i + 1]) end
  end
  return sums
end

local function tenant(name)
  local limits, sums, spent = read_tenant(name), used(name), read_spent(name, now)
  return {name, waiting[name], sums.jobs, sums.prompt_tokens, sums.completion_tokens, money(sums.usd),
    money(spent.day), money(limits.budget_day or 0),
    money(spent.month), money(limits.budget_month or 0)}
end

local routes = {}
for _, route in ipairs(redis.call('SMEMBERS', KEY.routes)) do
  local by_route, longest = lines(route, KEY.turns)
  local by_tenants = lines(route, KEY.parked)
  routes[#routes + 1] = {route, by_route, by_tenants, redis.call('ZCARD', KEY.suspects .. route),
    stamp(longest)}
end

-- Those that wait come first, then those that the settings name, then whoever else is known, where
-- they are not too many to be asked for.
look_at(redis.call('HKEYS', KEY.limits))
if redis.call('SCARD', KEY.tenants) <= most then look_at(redis.call('SMEMBERS', KEY.tenants)) end
local tenants = {}
for i, name in ipairs(names) do tenants[i] = tenant(name) end

local next_due = redis.call('ZRANGE', KEY.webhooks, 0, 0, 'WITHSCORES')[2]
return {routes, tenants, {redis.call('ZCARD', KEY.webhooks),
  redis.call('ZCOUNT', KEY.webhooks, '-inf', stamp(now)),
  stamp(math.max(0, now - tonumber(next_due or now)))}, redis.call('ZCARD', KEY.aside)}
