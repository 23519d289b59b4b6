-- What an attempt used that lost its worker: estimated by what had been streamed, since nobody is left
-- who knows.
-- include: gate, tier, expect, budget

-- Bytes of a delta event around its text, and the deltas whose length stands for that of all.
local ENVELOPE, LOOKED_AT = 160, 8

-- deltas: how many there were. Returns what usage.lua calls used; nil where there were none.
local function streamed(job, record, deltas)
  local gate = deltas > 0 and read_gate(record.route)
  if not gate then return nil end
  local bytes, last = 0, redis.call('XREVRANGE', KEY.feed .. job, '+', '-', 'COUNT', math.min(deltas, LOOKED_AT))
  for _, entry in ipairs(last) do bytes = bytes + math.max(#entry[2][2] - ENVELOPE, BYTES_PER_TOKEN) end
  local name = redis.call('HGET', KEY.job .. job, 'tier')
  local tier = name and tier_for(gate, name)
  local prompt = math.ceil(redis.call('HSTRLEN', KEY.job .. job, 'request') / BYTES_PER_TOKEN)
  local answer = math.ceil(deltas * bytes / #last / BYTES_PER_TOKEN)
  return { prompt = prompt, answer = answer, tokens = prompt + answer, estimated = true,
    usd = money(expected_usd(gate, prompt, answer, tier)) }
end
