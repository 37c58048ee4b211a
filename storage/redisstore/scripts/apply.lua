-- Publishes a delta. After lib's come four arguments for each change: number
-- of the kind, put or delete, key, document.
local at, store, bytes = published()
if at ~= ARGV[1] or store ~= ARGV[8] then
  return {'stale', at}
end
for i = 3, #KEYS do
  local t = type_of(KEYS[i])
  if t ~= 'hash' and t ~= 'none' then
    return {'corrupt', KEYS[i] .. ' is a ' .. t}
  end
end
local t = type_of(stream)
if t ~= 'stream' and t ~= 'none' then
  return {'corrupt', stream .. ' is a ' .. t}
end
if stream_is_ahead() then
  return {'corrupt', stream .. ' is ahead of the head'}
end

-- What would there be?
local kinds = #KEYS - 2
local first = COUNTS + kinds + 1
local count, exists = {}, {}
for i = 1, kinds do
  count[i] = redis.call('HLEN', KEYS[2 + i])
  exists[i] = {}
end
for i = first, #ARGV, 4 do
  local kind, key = tonumber(ARGV[i]), ARGV[i + 2]
  local was = exists[kind][key]
  if was == nil then
    was = redis.call('HEXISTS', KEYS[2 + kind], key)
  end
  local is = ARGV[i + 1] == 'put' and 1 or 0
  count[kind] = count[kind] + is - was
  exists[kind][key] = is
end
for i = 1, kinds do
  if count[i] ~= tonumber(ARGV[COUNTS + i]) then
    return {'corrupt', KEYS[2 + i] .. ' would have ' .. count[i] .. ' documents, the head says ' .. ARGV[COUNTS + i]}
  end
end

-- From here on nothing fails but the first command.
local length = redis.call('XLEN', stream)
local added = append(at)
for i = first, #ARGV, 4 do
  local hash, key = KEYS[2 + tonumber(ARGV[i])], ARGV[i + 2]
  if ARGV[i + 1] == 'put' then
    redis.call('HSET', hash, key, ARGV[i + 3])
  else
    redis.call('HDEL', hash, key)
  end
end

-- Trim, but never the new entry, and not for long: what is left over goes
-- with the next publishes.
bytes = length == 0 and added or bytes + added
length = length + 1
local max_entries, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
for _ = 1, 64 do
  if length == 1 or length <= max_entries and bytes <= max_bytes then
    break
  end
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', stream, oldest[1])
  bytes, length = bytes - size(oldest[2]), length - 1
end
set_head(length == 1 and added or math.max(bytes, added))
announce()
return {'ok', to}
