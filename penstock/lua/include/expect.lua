-- What a waiting job is expected to use: its prompt, at four bytes a token, and an answer such as its
-- route gives.
-- include: gate, tier
local BYTES_PER_TOKEN = 4

-- bytes: of its request. most_output: what it says itself, or infinity.
local function expected_tokens(gate, bytes, most_output)
  return math.ceil(bytes / BYTES_PER_TOKEN), math.min(most_output, gate.output_estimate)
end

-- tokens, of prompt and output: what it will rarely exceed, which is reserved. charge: the mean in tokens,
-- which its tenant's turn is charged with. Also what else its admission asks of the record: deadline, tier
-- and tier_reason, its tier_before, is_guest, and how often it was rung.
local function expect(job, gate, now)
  local record = KEY.job .. job
  local f = redis.call('HMGET', record, 'max_tokens', 'deadline', 'service_tier', 'asked_route', 'rings',
    'tier')
  local most_output, deadline = tonumber(f[1] or math.huge), tonumber(f[2] or nil)
  local tier, reason = tier_for(gate, f[3], deadline, now)
  local bytes = redis.call('HSTRLEN', record, 'request')
  local prompt, output = expected_tokens(gate, bytes, most_output)
  return {
    tokens = prompt + output, prompt = prompt, output = output,
    charge = prompt + math.ceil(math.min(most_output, gate.output_mean)),
    deadline = deadline, tier = tier, tier_reason = reason, is_guest = f[4],
    rings = tonumber(f[5] or 0), tier_before = f[6],
  }
end
