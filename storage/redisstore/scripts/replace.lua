-- Makes what is staged the published whole. After lib's KEYS come the staging
-- hash of each kind, then a free name for each. ARGV[1] is empty when the head
-- may be anywhere before the new position.
local kinds = (#KEYS - 2) / 3
local at = published()
if ARGV[1] ~= '' and at ~= ARGV[1] or not before(at, to) then
  return {'stale', at}
end
if type_of(stream) == 'stream' and stream_is_ahead() then
  return {'ahead', at}
end
local staged = {}
for i = 1, kinds do
  local key = KEYS[2 + kinds + i]
  staged[i] = type_of(key) == 'hash' and redis.call('HLEN', key) or 0
  if staged[i] ~= tonumber(ARGV[COUNTS + i]) then
    return {'corrupt', staged[i] .. ' documents are staged for ' .. KEYS[2 + i] .. ', the head says ' .. ARGV[COUNTS + i]}
  end
end

for i = 1, kinds do
  local live, staging, old = KEYS[2 + i], KEYS[2 + kinds + i], KEYS[2 + 2 * kinds + i]
  local exists = type_of(live) ~= 'none'
  if exists then
    redis.call('RENAME', live, old)
  end
  if staged[i] > 0 then
    redis.call('PERSIST', staging)
    redis.call('RENAME', staging, live)
  end
  if exists then
    redis.call('UNLINK', old)
  end
end
-- Nobody can follow from before a reset, so the stream starts again with it.
redis.call('UNLINK', stream, head)
set_head(append(at))
announce()
return {'ok', to}
