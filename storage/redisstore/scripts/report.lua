-- Records the report of a node. KEYS: nodes, index, crowded. Head and beat are none of them, as in head.lua.
local nodes, index, crowded = KEYS[1], KEYS[2], KEYS[3]
local head, beat = arg(), arg()

local id, report = arg(), arg()          -- the report is a JSON object of at least one field
local age = tonumber(arg())              -- microseconds
local is_leaving = arg() == '1'
local liveness, remembered = tonumber(arg()), tonumber(arg()) -- seconds
local max_nodes, max_beat = tonumber(arg()), tonumber(arg())

local function damaged(key, kind)
  local t = type_of(key)
  return t ~= 'none' and t ~= kind
end

for _, try in ipairs({
  {'ZADD', index, 'XX', '0', '\0probe'}, -- the first also asks for memory, see refusal
  {'ZREM', index, '\0probe'},
  {'HDEL', nodes, '\0probe'},
  {'SET', crowded, '1', 'XX', 'KEEPTTL'},
}) do
  local answer = redis.pcall(unpack(try))
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'WRONGTYPE', 1, true) then
    return {'refused', answer.err}
  end
end
if damaged(nodes, 'hash') or damaged(index, 'zset') then
  redis.call('UNLINK', nodes, index)
end

-- seen_before returns when the report that is kept was seen; 0 when there is none, or it makes no sense.
local function seen_before()
  if redis.call('HSTRLEN', nodes, id) > MAX_REPORT or not redis.call('ZSCORE', index, id) then
    return 0
  end
  local seconds, micros = string.match(redis.call('HGET', nodes, id) or '', '"seen_at":"?(%d+)%.?(%d*)')
  local seen = (tonumber(seconds) or 0) * 1000000 + (tonumber(string.sub((micros or '') .. '000000', 1, 6)) or 0)
  return seen <= now + TOLERANCE * 1000000 and seen or 0
end

local seen = now - age
if seen_before() <= seen then
  if is_leaving then
    forget(nodes, index, {id})
  else
    local kept = redis.pcall('HSET', nodes, id, '{"seen_at":' .. stamp(seen) .. ',' .. string.sub(report, 2))
    if type(kept) == 'table' and kept.err then
      return {'refused', kept.err}
    end
    redis.call('ZADD', index, stamp(now), id)
  end
end
sweep(nodes, index, crowded, remembered, liveness, max_nodes)

local live = redis.call('ZCOUNT', index, stamp(now - liveness * 1000000), '+inf')
local base = base_of(head)
local text = type_of(beat) == 'string' and redis.call('GETRANGE', beat, 0, max_beat) or ''
return {'ok', tostring(live), base[1], base[2], base[3], text}
