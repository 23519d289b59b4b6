-- What was used, by tenant, day and route. Kept for thirteen months.
-- include: clock, calendar
local KEPT = 400 * DAY

-- used: table with prompt, answer (tokens), usd and estimated; nil where nothing is known.
-- ended: whether the job has ended, and not only an attempt at it.
local function account(record, used, ended, now)
  local key = KEY.usage .. record.tenant .. ':' .. date_of(now)
  if ended then redis.call('HINCRBY', key, record.route .. ' jobs', 1) end
  if used then
    redis.call('HINCRBY', key, record.route .. ' prompt_tokens', used.prompt)
    redis.call('HINCRBY', key, record.route .. ' completion_tokens', used.answer)
    redis.call('HINCRBYFLOAT', key, record.route .. ' usd', used.usd)
    if used.estimated then
      redis.call('HINCRBYFLOAT', key, record.route .. ' estimated_usd', used.usd)
    end
  end
  if used or ended then redis.call('EXPIRE', key, KEPT) end
end

-- The four arguments in which a worker says what an attempt used: tokens of the prompt and of the
-- answer, USD, and "1" where they are estimated; "" where nothing is known.
local function read_used(at)
  if ARGV[at] == '' then return nil end
  return { prompt = ARGV[at], answer = ARGV[at + 1], usd = ARGV[at + 2],
    estimated = ARGV[at + 3] == '1', tokens = tonumber(ARGV[at]) + tonumber(ARGV[at + 1]) }
end
