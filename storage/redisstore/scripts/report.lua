-- Records the report of a node. KEYS: nodes, index, crowded, left. Head and beat are none of them, as in head.lua.
-- It runs for each node after each publish, so it asks Redis for little. That it is not done whole, where a right is
-- missing, does no harm: what the index or the hash alone has is forgotten.
local nodes, index, crowded, left = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local head, beat = arg(), arg()

local id, report = arg(), arg()          -- the report is a JSON object of at least one field
local age = tonumber(arg())              -- microseconds
local is_leaving = arg() == '1'
local liveness, remembered = tonumber(arg()), tonumber(arg()) -- seconds
local max_nodes, max_beat = tonumber(arg()), tonumber(arg())

local SWEEP = 16 -- one in so many looks for what is to be forgotten

-- seen_before returns when the report that is kept was seen; 0 when there is none, or it makes no sense.
local function seen_before()
  if type_of(nodes) ~= 'hash' or type_of(index) ~= 'zset' or
    redis.call('HSTRLEN', nodes, id) > MAX_REPORT or not redis.call('ZSCORE', index, id) then
    return 0
  end
  local seconds, micros = string.match(redis.call('HGET', nodes, id) or '', '"seen_at":"?(%d+)%.?(%d*)')
  local seen = (tonumber(seconds) or 0) * 1000000 + (tonumber(string.sub((micros or '') .. '000000', 1, 6)) or 0)
  return seen <= now + TOLERANCE * 1000000 and seen or 0
end

local seen, arrived = now - age, stamp(now)

-- record writes the report, or takes it away, and returns the error with which Redis refuses that.
local function record()
  if is_leaving then
    local farewells = farewells_in(left) .. report .. '\n'
    return failure(redis.pcall('HDEL', nodes, id)) or failure(redis.pcall('ZREM', index, id)) or
      failure(redis.pcall('SET', left, farewells, 'EX', liveness))
  end
  local text = '{"seen_at":' .. (age == 0 and arrived or stamp(seen)) .. ',' .. string.sub(report, 2)
  return failure(redis.pcall('HSET', nodes, id, text)) or failure(redis.pcall('ZADD', index, arrived, id))
end

if age == 0 or seen_before() <= seen then
  local err = record()
  if err and is_wrong_type(err) then
    redis.pcall('UNLINK', nodes, index)
    err = record()
  end
  if err then
    return {'refused', err}
  end
end
if (redis.call('ZCARD', index) > max_nodes or now % SWEEP == 0) and may_forget(nodes, index, crowded) then
  sweep(nodes, index, crowded, remembered, liveness, max_nodes)
end

local live = redis.call('ZCOUNT', index, stamp(now - liveness * 1000000), '+inf')
local base, text = base_of(head), redis.pcall('GETRANGE', beat, 0, max_beat)
return {'ok', tostring(live), base[1], base[2], base[3], failure(text) and '' or text}
