-- Makes what is staged the published whole. After lib's KEYS come the staging
-- hash of each kind, then a free name for each. ARGV[1] is empty when the head
-- may be anywhere before the new position. After lib's ARGV comes for each kind whether
-- what is live stays (1), which only fits under the same store.
local kinds = (#KEYS - 2) / 3
local at, store = published()
local function kept(i)
  return ARGV[COUNTS + kinds + i] == '1'
end
if ARGV[1] ~= '' and at ~= ARGV[1] or not before(at, to) then
  return {'stale', at}
end
if type_of(stream) == 'stream' and stream_is_ahead() then
  return {'ahead', at}
end
local staged = {}
for i = 1, kinds do
  local key = KEYS[2 + kinds + i]
  if kept(i) then
    key = KEYS[2 + i]
    if store ~= ARGV[8] then
      return {'stale', at}
    end
  end
  staged[i] = type_of(key) == 'hash' and redis.call('HLEN', key) or 0
  if staged[i] ~= tonumber(ARGV[COUNTS + i]) then
    return {'corrupt', staged[i] .. ' documents are staged for ' .. KEYS[2 + i] .. ', the head says ' .. ARGV[COUNTS + i]}
  end
end

for i = 1, kinds do
  local live, staging, old = KEYS[2 + i], KEYS[2 + kinds + i], KEYS[2 + 2 * kinds + i]
  local exists = type_of(live) ~= 'none' and not kept(i)
  if exists then
    redis.call('RENAME', live, old)
  end
  if staged[i] > 0 and not kept(i) then
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
