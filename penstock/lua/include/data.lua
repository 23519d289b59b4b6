-- The data of events that the scripts themselves make up, as JSON.
-- position, wait: see outlook.lua; nil where they are not known.
local function queued_data(route, tenant, priority, position, wait)
  local outlook = position and ',"position":' .. position .. ',"wait":' .. (wait or 'null') or ''
  return '{"route":"' .. route .. '","tenant":"' .. tenant .. '","priority":' .. priority
    .. outlook .. '}'
end

local function expired_data(deadline)
  return '{"deadline":' .. deadline .. '}'
end

-- Of a job that no worker has: whatever it said before was declared void.
local function cancelled_data(reason)
  return cjson.encode({ reason = reason, completion = cjson.null })
end
