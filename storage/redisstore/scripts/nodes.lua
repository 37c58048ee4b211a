-- Returns a page of reports in the order in which they came. KEYS: nodes, index, crowded, left.
-- Answers ok, the time, how many are kept, in the index and in the hash, whether it is crowded (0, 1), whether there
-- may be more (0, 1) and where they begin (a score, and how many of that score come before), the farewells, and then
-- for each report its id, the score of the index, and its text. What makes no sense at first sight is forgotten, and does not come.
local nodes, index, crowded, left = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local from = arg()                                       -- score of the first
local latest = tonumber(arg())                           -- that many at most, the latest; 0 all
local offset, count = tonumber(arg()), tonumber(arg())   -- the page
local remembered, liveness = tonumber(arg()), tonumber(arg()) -- seconds
local max_nodes = tonumber(arg())

-- is_crowded: what would be told for longer than report.lua tells it is nobody's.
local function is_crowded()
  local left = redis.call('PTTL', crowded)
  return left > 0 and left <= liveness * 1000 and '1' or '0'
end
if type_of(index) ~= 'zset' or type_of(nodes) ~= 'hash' then
  return {'ok', stamp(now), '0', '0', is_crowded(), '0', from, '0', farewells_in(left)}
end
local may = may_forget(nodes, index, crowded)
if may then
  sweep(nodes, index, crowded, remembered, liveness, max_nodes)
end
local future = stamp(now + TOLERANCE * 1000000) -- whose reports are damage
if latest > 0 then
  local first = redis.call('ZREVRANGEBYSCORE', index, future, from, 'WITHSCORES', 'LIMIT', latest - 1, 1)
  from = first[2] or from
end

local page = redis.call('ZRANGEBYSCORE', index, from, future, 'WITHSCORES', 'LIMIT', offset, count)
local reports, damaged, scores = {}, {}, {}
for i = 1, #page, 2 do
  local id, score = page[i], page[i + 1]
  local length = #id <= MAX_ID and redis.call('HSTRLEN', nodes, id) or 0
  if length > 0 and length <= MAX_REPORT then
    reports[#reports + 1], reports[#reports + 2] = id, score
    reports[#reports + 1] = redis.call('HGET', nodes, id)
  else
    damaged[#damaged + 1] = id
  end
  if may and damaged[#damaged] == id then
    score = nil -- it will not be there when the next page begins
  end
  scores[#scores + 1] = score
end
if may then
  forget(nodes, index, damaged)
end
-- Those of the last score may go on on the next page. One that comes twice is the same report, or a newer one.
local more = #page == 2 * count
for _, score in ipairs(scores) do
  if score ~= from then
    from, offset = score, 0
  end
  offset = offset + 1
end
local answer = {'ok', stamp(now), tostring(redis.call('ZCARD', index)), tostring(redis.call('HLEN', nodes)), is_crowded(),
  more and '1' or '0', from, tostring(offset), farewells_in(left)}
local header = #answer
for i, value in ipairs(reports) do
  answer[header + i] = value
end
return answer
