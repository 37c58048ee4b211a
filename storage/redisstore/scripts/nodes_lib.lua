-- What the scripts about the reports of data planes share. The index orders them by when they came, in
-- unix seconds by the clock of Redis; the hash says in seen_at when the node was seen, which is earlier
-- where a mirror has passed its report on.
local TOLERANCE = 2       -- seconds; after a failover the clock may be that much behind
local MAX_REPORT = 65536  -- bytes; a longer one is damage
local CLEAN_UP = 100      -- reports that are forgotten at a time

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) -- microseconds; exact below 2^53

-- stamp writes a time in microseconds as seconds.
local function stamp(micros)
  return string.format('%.0f.%06.0f', math.floor(micros / 1000000), micros % 1000000)
end

-- forget takes reports away.
local function forget(nodes, index, ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', index, id)
    redis.call('HDEL', nodes, id)
  end
end

-- sweep forgets nodes that were not heard of for too long, and those that come from the future.
local function sweep(nodes, index, remembered)
  local old = stamp(now - remembered * 1000000)
  forget(nodes, index, redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. old, 'LIMIT', 0, CLEAN_UP))
  local future = stamp(now + TOLERANCE * 1000000)
  forget(nodes, index, redis.call('ZRANGEBYSCORE', index, '(' .. future, '+inf', 'LIMIT', 0, CLEAN_UP))
end
