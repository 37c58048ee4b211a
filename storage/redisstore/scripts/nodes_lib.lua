-- What the scripts about the reports of data planes share. The index orders them by when they came, in
-- unix seconds by the clock of Redis; the hash says in seen_at when the node was seen, which is earlier
-- where a mirror has passed its report on.
local TOLERANCE = 2       -- seconds; after a failover the clock may be that much behind
local MAX_REPORT = 65536  -- bytes; a longer one is damage
local MAX_ID = 200        -- bytes
local MAX_FAREWELLS = 65536 -- bytes
local CLEAN_UP = 500      -- reports that are forgotten at a time

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) -- microseconds; exact below 2^53

-- stamp writes a time in microseconds as seconds.
local function stamp(micros)
  return string.format('%d.%06d', math.floor(micros / 1000000), micros % 1000000)
end

-- failure returns the error that an answer is; nil when it is none.
local function failure(answer)
  return type(answer) == 'table' and answer.err or nil
end

local function is_wrong_type(err)
  return string.find(err, 'WRONGTYPE', 1, true) ~= nil
end

-- farewells_in returns the reports with which nodes took theirs away lately, a line each, the last ones whole.
local function farewells_in(left)
  local text = redis.pcall('GETRANGE', left, -MAX_FAREWELLS, -1)
  return failure(text) and '' or text
end

-- may_forget reports whether there are the rights to forget. To forget is not what was asked for: without
-- them it is left to others.
local function may_forget(nodes, index, crowded)
  for _, try in ipairs({
    {'ZREM', index, '\0probe'}, {'HDEL', nodes, '\0probe'}, {'SET', crowded, '1', 'XX', 'KEEPTTL'},
  }) do
    local err = failure(redis.pcall(unpack(try)))
    if err and not is_wrong_type(err) then
      return false
    end
  end
  return true
end

-- forget takes reports away, CLEAN_UP at most.
local function forget(nodes, index, ids)
  if #ids > 0 then
    redis.call('ZREM', index, unpack(ids))
    redis.call('HDEL', nodes, unpack(ids))
  end
end

-- sweep forgets nodes that were not heard of for too long, those that come from the future, and, beyond max_nodes,
-- the longest unseen: each CLEAN_UP at a time. That a live one had to go is told for liveness seconds.
local function sweep(nodes, index, crowded, remembered, liveness, max_nodes)
  local old = stamp(now - remembered * 1000000)
  forget(nodes, index, redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. old, 'LIMIT', 0, CLEAN_UP))
  local future = redis.call('ZRANGEBYSCORE', index, '(' .. stamp(now + TOLERANCE * 1000000), '+inf', 'LIMIT', 0, CLEAN_UP)
  forget(nodes, index, future)
  local surplus = redis.call('ZCARD', index) - max_nodes
  if surplus <= 0 or #future == CLEAN_UP then -- the rest of those from the future goes first
    return
  end
  local ids, last = {}, 0
  local oldest = redis.call('ZRANGE', index, 0, math.min(surplus, CLEAN_UP) - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    ids[#ids + 1], last = oldest[i], tonumber(oldest[i + 1])
  end
  if last >= now / 1000000 - liveness then
    redis.call('SET', crowded, '1', 'EX', liveness)
  end
  forget(nodes, index, ids)
end
