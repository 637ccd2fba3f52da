-- Leases a block of connections and starts for each host, for all workers together.
--
-- KEYS[i]  hash, one for each host; expires a day after its last use at the latest:
--   next    ms   when the next start is free: starts are reserved one spacing apart
--   after   ms   not before: what Retry-After asked for
--   open    ms   until then the breaker is open
--   failed  n    failures in a row
--   w:<id>  "connections:expires", one for each worker that holds or wants connections
-- ARGV      worker, lease ms, breaker failures, breaker ms, then for each host eight numbers:
--   starts wanted, connections wanted, in use, connections allowed, spacing ms, retry after ms, failures since, 1 if something succeeded since
-- Returns for each host: connections, starts, ms to the first start, ms to wait (Retry-After), ms the breaker is open
--
-- Redis 6.0 needs to be told that the clock is read before writing.
pcall(redis.replicate_commands)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local worker, lease = 'w:' .. ARGV[1], tonumber(ARGV[2])
local most_failures, breaker = tonumber(ARGV[3]), tonumber(ARGV[4])

local function others(key, fields)
  local held, workers, waiting = 0, 0, false
  for name, value in pairs(fields) do
    if string.sub(name, 1, 2) == 'w:' and name ~= worker then
      local connections, expires = string.match(value, '(%d+):(%d+)')
      if tonumber(expires) <= now then
        redis.call('HDEL', key, name)
      else
        workers = workers + 1
        held = held + tonumber(connections)
        waiting = waiting or connections == '0'
      end
    end
  end
  return held, workers, waiting
end

local function lease_of(key, wanted, more, in_use, allowed, spacing, retry_after, failures, succeeded)
  local raw, fields = redis.call('HGETALL', key), {}
  for i = 1, #raw, 2 do fields[raw[i]] = raw[i + 1] end

  local failed = failures + (succeeded == 1 and 0 or tonumber(fields.failed or 0))
  local open = tonumber(fields.open or 0)
  if failed >= most_failures then
    open = math.max(open, now + breaker)
    failed = most_failures - 1 -- afterwards one more failure opens it again
  end
  local after = math.max(tonumber(fields.after or 0), retry_after > 0 and now + retry_after or 0)

  local held, workers, waiting = others(key, fields)
  local share = workers == 0 and allowed or math.max(1, math.floor(allowed / (workers + 1)))
  local mine = tonumber(string.match(fields[worker] or '0:0', '(%d+):'))
  -- More workers than connections: who had one lets another have it.
  if waiting and mine > 0 and workers + 1 > allowed then share = 0 end
  local connections = math.max(in_use, math.min(more + in_use, share, math.max(0, allowed - held)))

  local starts, first = wanted, 0
  local next_start = math.max(tonumber(fields.next or 0), now)
  if spacing > 0 then
    local fair = math.max(1, math.ceil(lease / spacing / (workers + 1)))
    starts = math.max(0, math.min(wanted, fair, math.ceil((now + lease - next_start) / spacing)))
    first = next_start - now
  end
  if open > now or after > now or connections == 0 then starts = 0 end

  redis.call('HSET', key, 'next', string.format('%.0f', next_start + starts * spacing), 'after', string.format('%.0f', after),
    'open', string.format('%.0f', open), 'failed', failed)
  if wanted + more + in_use > 0 then
    redis.call('HSET', key, worker, string.format('%.0f:%.0f', connections, now + lease))
  else
    redis.call('HDEL', key, worker)
  end
  redis.call('PEXPIRE', key, math.min(86400000, lease + math.max(breaker, after - now, open - now, next_start - now)))
  return connections, starts, first, math.max(0, after - now), math.max(0, open - now)
end

local answer = {}
for i, key in ipairs(KEYS) do
  local at = 4 + (i - 1) * 8
  local numbers = {}
  for n = 1, 8 do numbers[n] = tonumber(ARGV[at + n]) end
  for _, number in ipairs({lease_of(key, unpack(numbers))}) do
    answer[#answer + 1] = math.floor(number)
  end
end
return answer
