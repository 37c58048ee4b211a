-- Takes, prolongs or ends a lease. Returns 1 when the holder has it then.
local key = KEYS[1]
local holder, ttl = ARGV[1], tonumber(ARGV[2]) -- of milliseconds; 0 ends it

local kind = redis.call('TYPE', key).ok
local holds = kind == 'string' and redis.call('GETRANGE', key, 0, 255) or ''
if ttl == 0 then
  if holds == holder then
    redis.call('UNLINK', key)
  end
  return 0
end
-- One that would go on for longer than anybody takes it for, or that is of another type, is nobody's.
local left = redis.call('PTTL', key)
if kind == 'string' and holds ~= holder and left >= 0 and left <= ttl then
  return 0
end
redis.call('SET', key, holder, 'PX', ttl)
return 1
