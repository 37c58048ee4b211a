-- What apply and replace share. Both get
--   KEYS: head, stream, one hash per kind, …
--   ARGV: 1 position the head must have   2 position to publish
--         3 reset (0 or 1)                4 changes, JSON
--         5 entries, 6 bytes that the stream may hold
--         7–16 the fields of the head, in the order of HEAD
--         17…  number of documents that there must be, per kind
local head, stream = KEYS[1], KEYS[2]
local to = ARGV[2]
local HEAD = {'format', 'store', 'mark', 'digest', 'sig', 'seal', 'renderer', 'counts', 'updated_at', 'forced'}
local COUNTS = 16

local function type_of(key)
  return redis.call('TYPE', key).ok
end

-- split returns the two numbers of a position, as text.
local function split(position)
  return string.match(position, '^(%d+)%-(%d+)$')
end

-- less compares numbers as text: they may exceed 2^53.
local function less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function before(p, q)
  local e1, r1 = split(p)
  local e2, r2 = split(q)
  if e1 ~= e2 then
    return less(e1, e2)
  end
  return less(r1, r2)
end

-- published returns the head's position, store and stream_bytes. A head that
-- is missing or makes no sense is at 0-0, before everything.
local function published()
  if type_of(head) ~= 'hash' then
    return '0-0', '', 0
  end
  local h = redis.call('HMGET', head, 'epoch', 'revision', 'store', 'stream_bytes')
  local at = (h[1] or '') .. '-' .. (h[2] or '')
  if not split(at) then
    at = '0-0'
  end
  return at, h[3] or '', tonumber(h[4]) or 0
end

-- stream_is_ahead reports whether XADD would refuse the id.
local function stream_is_ahead()
  return #redis.call('XRANGE', stream, to, '+', 'COUNT', 1) > 0
end

local function size(fields)
  local n = 0
  for i = 1, #fields do
    n = n + #fields[i]
  end
  return n
end

-- append adds the publish to the stream and returns the size of the entry.
local function append(from)
  local fields = {'from', from, 'to', to, 'reset', ARGV[3], 'changes', ARGV[4]}
  for i, name in ipairs(HEAD) do
    fields[#fields + 1] = name
    fields[#fields + 1] = ARGV[6 + i]
  end
  redis.call('XADD', stream, to, unpack(fields))
  return size(fields)
end

-- set_head moves the head; bytes is the size of the stream.
local function set_head(bytes)
  local epoch, revision = split(to)
  local fields = {'epoch', epoch, 'revision', revision, 'stream_bytes', string.format('%.0f', bytes)}
  for i, name in ipairs(HEAD) do
    fields[#fields + 1] = name
    fields[#fields + 1] = ARGV[6 + i]
  end
  redis.call('HSET', head, unpack(fields))
end

-- announce tells those who listen. It may be forbidden, and is a hint only.
local function announce()
  redis.pcall('PUBLISH', 'dp:config:refresh', '{"resource":"snapshot","version":"' .. to ..
    '","active_key":"' .. head .. '","timestamp":' .. redis.call('TIME')[1] .. '}')
end
