-- What the scripts share. A script in Redis is atomic but is not rolled back: what was written before
-- a command fails stays. So every script makes all its checks before its first write.
--
-- Each returns {status, detail}:
--   ok       done
--   stale    the published head, or the end of the stream, is another one than it was; where it is
--   busy     the stream ends in something that is not the head's own entry; its last id
--   corrupt  there are not as many documents as there must be; of which kind
--   refused  Redis would refuse the writes; its error
local MAX_VALUE = 256     -- bytes; longer values of the head are compared as a question mark

local next_arg = 0
-- arg returns the arguments one after the other.
local function arg()
  next_arg = next_arg + 1
  return ARGV[next_arg]
end

local function type_of(key)
  return redis.call('TYPE', key).ok
end

-- base_of returns the three values by which a head is known; those that are missing are empty.
local function base_of(head)
  local base, values = {'', '', ''}, redis.pcall('HMGET', head, 'epoch', 'revision', 'sig')
  if values.err and not string.find(values.err, 'WRONGTYPE', 1, true) then
    redis.call('HMGET', head, 'epoch') -- raises it: a head that may not be read is not a missing one
  end
  for i = 1, values.err and 0 or 3 do
    local value = values[i] or ''
    base[i] = #value <= MAX_VALUE and value or '?'
  end
  return base
end
