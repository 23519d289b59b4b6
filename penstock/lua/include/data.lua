-- The data of events that the scripts themselves make up, as JSON.
local function queued_data(route, tenant, priority)
  return '{"route":"' .. route .. '","tenant":"' .. tenant .. '","priority":' .. priority .. '}'
end

local function expired_data(deadline)
  return '{"deadline":' .. deadline .. '}'
end

-- Of a job that no worker has: whatever it said before was declared void.
local function cancelled_data(reason)
  return cjson.encode({ reason = reason, completion = cjson.null })
end
