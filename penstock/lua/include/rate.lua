-- How fast something may go, as the settings publish it: see limits.py.
local NO_LIMIT = '0 0'
local unlimited = { interval = 0, slack = 0 }

-- "interval slack" as a table: `interval`, seconds one unit costs, 0 for no limit, and `slack`, how
-- many seconds what was paid for may run ahead. Nothing: no limit.
local function read_rate(text)
  if not text or text == NO_LIMIT then return unlimited end  -- sooner than the pattern
  local interval, slack = string.match(text, '^(%S+) (%S+)$')
  if not interval then return unlimited end
  return { interval = tonumber(interval), slack = tonumber(slack) }
end
