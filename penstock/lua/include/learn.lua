-- What a route's answers teach its gate: how long they are, and how fast. Old ones are forgotten.
-- include: clock

-- Sizes are counted by class, each a tenth larger than the one before. What nine in ten answers do
-- not exceed is what the gate expects of the next one. It is counted anew at each of the first
-- answers and then at every thirty-second; old ones are forgotten by half.
local CLASS = math.log(1.1)
local RARELY, MEMORY, FEW, RECOUNT = 0.9, 2000, 8, 32

local function size_class(size)
  return math.ceil(math.log(math.max(size, 1)) / CLASS)
end

local function recount(key)
  local classes, total, seen = {}, 0, 0
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local class = tonumber(all[i])
    if class then
      classes[#classes + 1] = { class, tonumber(all[i + 1]) }
      total = total + tonumber(all[i + 1])
    end
  end
  if total > MEMORY then
    for _, each in ipairs(classes) do redis.call('HSET', key, each[1], math.floor(each[2] / 2)) end
  end
  table.sort(classes, function(a, b) return a[1] < b[1] end)
  for _, each in ipairs(classes) do
    seen = seen + each[2]
    if seen >= RARELY * total then return math.ceil(math.exp(each[1] * CLASS)) end
  end
end

-- A mean follows some thirty answers.
local FOLLOWS = 32
local function followed(mean, value)
  mean = tonumber(mean or value)
  return stamp(mean + (value - mean) / FOLLOWS)
end

-- The quickest of the last answers: each slower one makes it a twentieth longer.
local FORGETS = 1.05

-- output: tokens of an answer. tokens: with its prompt. seconds: from its claim to its end.
local function learn(route, output, tokens, seconds)
  local gate, outputs = KEY.gate .. route, KEY.outputs .. route
  local f = redis.call('HMGET', gate, 'output_mean', 'tokens_mean', 'seconds_mean', 'quickest')
  redis.call('HSET', gate, 'output_mean', followed(f[1], output), 'tokens_mean',
    followed(f[2], tokens), 'seconds_mean', followed(f[3], seconds),
    'quickest', stamp(math.min(tonumber(f[4] or seconds) * FORGETS, seconds)))
  redis.call('HINCRBY', outputs, size_class(output), 1)
  local count = redis.call('HINCRBY', outputs, 'count', 1)
  if count > FEW and count % RECOUNT ~= 0 then return end
  redis.call('HSET', gate, 'output_estimate', recount(outputs))
end
