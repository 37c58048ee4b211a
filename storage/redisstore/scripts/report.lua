-- Records reports of nodes. KEYS: nodes, index, crowded, left. Head and beat are none of them, as in head.lua.
-- It runs for each node after each publish, so it asks Redis for little. That it is not done whole, where a right is
-- missing, does no harm: what the index or the hash alone has is forgotten.
-- Answers ok, how many nodes are live, the base of what is published, the beat, and then for each report that Redis
-- refuses its number, from 1, and the error.
local nodes, index, crowded, left = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local head, beat = arg(), arg()
local liveness, remembered = tonumber(arg()), tonumber(arg()) -- seconds
local max_nodes, max_beat = tonumber(arg()), tonumber(arg())
-- For each report: its id; the report, a JSON object of at least one field; its age in microseconds; whether the
-- node is leaving (0, 1).
local FIELDS = 4

local SWEEP = 16 -- one run in so many looks for what is to be forgotten

local arrived = stamp(now)

-- read runs a command that reads. A key of a wrong type has nothing in it.
local function read(...)
  local answer = redis.pcall(...)
  local err = failure(answer)
  if not err then
    return answer
  elseif not is_wrong_type(err) then
    redis.call(...) -- raises it: what may not be read is not missing
  end
end

-- is_older reports whether the report that is kept was seen after the given time. Nobody is seen after the report came,
-- so the index mostly tells. What makes no sense is older than everything.
local function is_older(id, seen)
  local came = tonumber(read('ZSCORE', index, id) or nil)
  if not came or came * 1000000 <= seen or (read('HSTRLEN', nodes, id) or 0) > MAX_REPORT then
    return false
  end
  local seconds, micros = string.match(read('HGET', nodes, id) or '', '"seen_at":"?(%d+)%.?(%d*)')
  local before = (tonumber(seconds) or 0) * 1000000 + (tonumber(string.sub((micros or '') .. '000000', 1, 6)) or 0)
  return before > seen and before <= now + TOLERANCE * 1000000
end

-- record writes a report, or takes it away, and returns the error with which Redis refuses that.
local function record(id, report, age, is_leaving)
  if is_leaving then
    return failure(redis.pcall('HDEL', nodes, id)) or failure(redis.pcall('ZREM', index, id))
  end
  local text = '{"seen_at":' .. (age == 0 and arrived or stamp(now - age)) .. ',' .. string.sub(report, 2)
  return failure(redis.pcall('HSET', nodes, id, text)) or failure(redis.pcall('ZADD', index, arrived, id))
end

local refused = {}             -- numbers and errors
local farewells, leaving = {}, {} -- and the numbers of those
for n = 1, (#ARGV - next_arg) / FIELDS do
  local id, report, age, is_leaving = arg(), arg(), tonumber(arg()), arg() == '1'
  if age == 0 or not is_older(id, now - age) then
    local err = record(id, report, age, is_leaving)
    if err and is_wrong_type(err) then
      redis.pcall('UNLINK', nodes, index)
      err = record(id, report, age, is_leaving)
    end
    if err then
      refused[#refused + 1], refused[#refused + 2] = tostring(n), err
    elseif is_leaving then
      farewells[#farewells + 1], leaving[#leaving + 1] = report .. '\n', n
    end
  end
end
if #leaving > 0 then
  local err = failure(redis.pcall('SET', left, farewells_in(left) .. table.concat(farewells), 'EX', liveness))
  for _, n in ipairs(err and leaving or {}) do
    refused[#refused + 1], refused[#refused + 2] = tostring(n), err
  end
end
if (redis.call('ZCARD', index) > max_nodes or now % SWEEP == 0) and may_forget(nodes, index, crowded) then
  sweep(nodes, index, crowded, remembered, liveness, max_nodes)
end

local live = redis.call('ZCOUNT', index, stamp(now - liveness * 1000000), '+inf')
local base, text = base_of(head), redis.pcall('GETRANGE', beat, 0, max_beat)
return {'ok', tostring(live), base[1], base[2], base[3], failure(text) and '' or text, unpack(refused)}
