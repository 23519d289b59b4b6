-- Which service tier a job is answered in: the cheapest of its route, or the one it asks for, and the
-- dearer ones as its deadline nears.

-- A job is in the dearest tier from when less than this many answers' time is left, in the next one
-- from twice that on, and so on.
local PRESSED = 2

-- Returns the tier, as a table of its name and its factor, what it costs in the default's; and the
-- reason: "asked", "cheapest" or "deadline". nil where the route has no tiers, or the job asks for one
-- that is none of them: then its request stays as it is.
local function tier_for(gate, asked, deadline, now)
  if gate.service_tiers == '' then return nil end
  local tiers, number, reason = {}, nil, 'asked'
  if not asked then number, reason = 1, 'cheapest' end
  for name, factor in string.gmatch(gate.service_tiers, '([^%s:]+):(%S+)') do  -- in their order
    tiers[#tiers + 1] = { name = name, factor = tonumber(factor) }
    if name == asked then number = #tiers end
  end
  if not number then return nil end
  if not deadline or gate.seconds_mean == 0 then return tiers[number], reason end
  local answers, dear = (deadline - now) / gate.seconds_mean, #tiers
  while dear > 1 and answers >= PRESSED * 2 ^ (#tiers - dear) do dear = dear - 1 end
  if dear > number then return tiers[dear], 'deadline' end
  return tiers[number], reason
end
