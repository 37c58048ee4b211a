-- Returns a page of reports in the order in which they came. KEYS: nodes, index, crowded.
-- Answers ok, the time, how many are kept, whether it is crowded (0, 1), and then for each report its id,
-- the score of the index, and its text.
local nodes, index, crowded = KEYS[1], KEYS[2], KEYS[3]

local from = arg()                                       -- score of the first
local latest = tonumber(arg())                           -- that many at most, the latest; 0 all
local offset, count = tonumber(arg()), tonumber(arg())   -- the page
local remembered = tonumber(arg())                       -- seconds

if type_of(index) ~= 'zset' or type_of(nodes) ~= 'hash' then
  return {'ok', stamp(now), '0', tostring(redis.call('EXISTS', crowded))}
end
-- To forget is not what was asked for: without the rights for it, it is left to others.
local function may(command, key)
  local answer = redis.pcall(command, key, '\0probe')
  return type(answer) == 'number'
end
if may('ZREM', index) and may('HDEL', nodes) then
  sweep(nodes, index, remembered)
end
if latest > 0 then
  local first = redis.call('ZREVRANGEBYSCORE', index, '+inf', from, 'WITHSCORES', 'LIMIT', latest - 1, 1)
  from = first[2] or from
end
local answer = {'ok', stamp(now), tostring(redis.call('ZCARD', index)), tostring(redis.call('EXISTS', crowded))}
local page = redis.call('ZRANGEBYSCORE', index, from, '+inf', 'WITHSCORES', 'LIMIT', offset, count)
for i = 1, #page, 2 do
  local id = page[i]
  local text = ''
  if redis.call('HSTRLEN', nodes, id) <= MAX_REPORT then
    text = redis.call('HGET', nodes, id) or ''
  end
  answer[#answer + 1] = id
  answer[#answer + 1] = page[i + 1]
  answer[#answer + 1] = text
end
return answer
