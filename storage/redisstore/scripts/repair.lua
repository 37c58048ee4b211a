-- Writes documents at the position of the head, if there are any. KEYS: head, stream, probe, fence (which does not
-- matter here), a hash for each kind.
local head, stream, probe = KEYS[1], KEYS[2], KEYS[3]
local hashes = keys_from(4)

local seen_base = {arg(), arg(), arg()}
local own_id = arg()   -- of the head's own entry; '' when its position cannot be read
local takeover = arg() -- the end of the stream that may be cleared away

local base = base_of(head)
if not same_base(base, seen_base) or type_of(head) ~= 'hash' then
  return {'stale', position_of(base)}
end
local stream_type = type_of(stream)
local abandon = false
if stream_type ~= 'none' and (stream_type ~= 'stream' or goes_beyond(stream, own_id)) then
  local last = last_id(stream)
  if last ~= takeover then
    return {'busy', last}
  end
  abandon = true
end
if not abandon and next_arg == #ARGV then
  return {'ok', ''}
end
local err = refusal(probe, KEYS)
if err then
  return {'refused', err}
end

if abandon then
  redis.call('UNLINK', stream)
end
for _, hash in ipairs(hashes) do
  if type_of(hash) ~= 'hash' then -- of another type there is nothing to mend
    redis.call('UNLINK', hash)
  end
end
write(hashes)
return {'ok', ''}
