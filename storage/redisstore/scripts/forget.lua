-- Forgets reports that make no sense, CLEAN_UP at most, unless they were made anew since. KEYS: nodes, index.
-- ARGV: id and what the hash held ('' for nothing, or for too much), in turn.
local nodes, index = KEYS[1], KEYS[2]
local ids = {}
while next_arg < #ARGV do
  local id, text = arg(), arg()
  local length = redis.call('HSTRLEN', nodes, id)
  if length > MAX_REPORT or (length == 0 and text == '') or redis.call('HGET', nodes, id) == text then
    ids[#ids + 1] = id
  end
end
forget(nodes, index, ids)
return {'ok', ''}
