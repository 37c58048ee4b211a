-- Makes what is staged the published whole. KEYS: head, stream, probe, fence, then for each kind its hash, then
-- for each its staged hash, then for each a free name.
local head, stream, probe, fence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FIRST = 4 -- of KEYS, before the hashes
local kinds = (#KEYS - FIRST) / 3

local seen_base = {arg(), arg(), arg()}
local id, position, chain = arg(), arg(), arg()
local entry, head_fields = args(), args()
local counts = args() -- how many documents must be staged for each kind

local base = base_of(head)
if not same_base(base, seen_base) then
  if has_entry(stream, id, chain) then
    return {'ok', id}
  end
  return {'stale', position_of(base)}
end
local staged, written = {}, {head, stream, fence}
for i = 1, kinds do
  local live, staging = KEYS[FIRST + i], KEYS[FIRST + kinds + i]
  written[#written + 1] = live
  written[#written + 1] = staging
  staged[i] = type_of(staging) == 'hash' and redis.call('HLEN', staging) or 0
  if staged[i] ~= tonumber(counts[i]) then
    return {'corrupt', staged[i] .. ' documents are staged for ' .. live .. ', the head says ' .. counts[i]}
  end
end
local err = refusal(probe, written)
if not err then
  -- RENAME of what is not there fails with another error than the one for a missing right.
  local answer = redis.pcall('RENAME', probe, probe)
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'no such key', 1, true) then
    err = answer.err
  end
end
if err then
  return {'refused', err}
end

-- Nobody can follow from before a whole, so the stream begins anew with it. It is written first, because
-- only XADD could fail.
redis.call('UNLINK', stream, fence)
redis.call('XADD', stream, id, unpack(entry))
for i = 1, kinds do
  local live, staging, old = KEYS[FIRST + i], KEYS[FIRST + kinds + i], KEYS[FIRST + 2 * kinds + i]
  local exists = type_of(live) ~= 'none'
  if exists then
    redis.call('RENAME', live, old) -- onto a live hash of a million fields it would free those at once
  end
  if staged[i] > 0 then
    redis.call('PERSIST', staging) -- a time to live travels with RENAME
    redis.call('RENAME', staging, live)
  end
  if exists then
    redis.call('UNLINK', old)
  end
end
set_head(head, head_fields, tonumber(field(entry, 'bytes')))
return {'ok', id, announce(head, position)}
