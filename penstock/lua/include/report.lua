-- Puts what happened to a job into the outbox, for the endpoint that wants to be told.
-- include: clock

-- An event of more bytes is not delivered itself, but a link to it.
local MOST_DELIVERED = 20480

local ENDS = 'completed,failed,cancelled,expired'

-- A job's endpoint: its own, else its tenant's, else that of all others; nil where there is none.
local function read_endpoint(job, record)
  if record.webhook then
    local f = redis.call('HMGET', KEY.job .. job, 'webhook_events', 'webhook_secret')
    return { url = record.webhook, events = f[1] or ENDS, secret = f[2] }
  end
  local found = redis.call('HMGET', KEY.endpoints, record.tenant, '*')
  local text = found[1] or found[2]
  if not text then return nil end
  local events, secret_env, url = string.match(text, '^(%S+) (%S+) (%S+)$')
  return { url = url, events = events, secret_env = secret_env ~= '-' and secret_env }
end

local function wants(endpoint, kind)
  return string.find(',' .. endpoint.events .. ',', ',' .. kind .. ',', 1, true) ~= nil
end

-- cursor: the event's id. due: from when it may be sent. Returns the delivery's key.
local function add_delivery(job, record, endpoint, kind, cursor, now, due)
  local id = job .. '-' .. cursor
  local key = KEY.delivery .. id
  local f = redis.call('HMGET', KEY.job .. job, 'metadata', 'traceparent', 'tracestate')
  redis.call('HSET', key, 'job', job, 'tenant', record.tenant, 'route', record.route,
    'type', kind, 'cursor', cursor, 'time', string.format('%.3f', now), 'url', endpoint.url,
    'metadata', f[1] or '{}',
    'created_at', stamp(now), 'state', 'waiting', 'ttl', record.result_ttl)
  if f[2] then redis.call('HSET', key, 'traceparent', f[2], 'tracestate', f[3] or '') end
  if endpoint.secret then redis.call('HSET', key, 'secret', endpoint.secret) end
  if endpoint.secret_env then redis.call('HSET', key, 'secret_env', endpoint.secret_env) end
  redis.call('ZADD', KEY.webhooks, stamp(due), id)
  redis.call('ZADD', KEY.deliveries .. record.tenant, stamp(now), id)
  redis.call('SADD', KEY.reports .. job, id)
  return key
end

-- event: its JSON, as it stands in the feed.
local function report(job, record, attempt, n, kind, now, event)
  local endpoint = read_endpoint(job, record)
  if not endpoint or not wants(endpoint, kind) then return end
  local key = add_delivery(job, record, endpoint, kind, attempt .. '-' .. n, now, now)
  if #event <= MOST_DELIVERED then redis.call('HSET', key, 'event', event) end
end
