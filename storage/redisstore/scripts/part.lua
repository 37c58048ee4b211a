-- Publishes one part of a delta. KEYS: head, stream, probe, fence, a hash for each kind that the head counts or
-- the part changes.
local head, stream, probe, fence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local hashes = keys_from(4)

local seen_base = {arg(), arg(), arg()}         -- of the head that the delta starts at
local own_id = arg()                            -- of that head's own entry
local before = arg()                            -- id of the part before; '' for the first
local takeover = arg()                          -- the end of the stream that may be cleared away; '' none
local id, position, chain = arg(), arg(), arg() -- of this part; where the delta leads to
local max_entries, max_bytes = tonumber(arg()), tonumber(arg()) -- of the stream
local entry = args()                            -- the fields of the entry
local head_fields = args()                      -- the head's, with the last part alone
local counts = args()                           -- how many documents each hash must have then, '' any

local MAX_TRIMS = 16                            -- publishes that go at a time; more go with the next one
local USED = 'used'                             -- the end of a stream whose ids cannot be used again
local FENCED = 'fenced'                         -- the end of one that somebody keeps for a whole
local FENCE_TTL = 2000                          -- milliseconds
local is_first, is_last = before == '', #head_fields > 0

local base = base_of(head)
if not same_base(base, seen_base) then
  if has_entry(stream, id, chain) then
    return {'ok', id}
  end
  return {'stale', position_of(base)}
end
-- A fence that would stand for longer than anybody puts one up for is nobody's.
local stands = redis.call('PTTL', fence)
if is_first and stands > 0 and stands <= FENCE_TTL then
  return {'busy', FENCED}
end
local stream_type = type_of(stream)
local abandon = false -- what the stream ends in
if not is_first then
  local last = last_id(stream)
  if last == id and has_entry(stream, id, chain) then
    return {'ok', id}
  -- Somebody who has taken over may be on the way to the same position, with the same ids.
  elseif last ~= before or not has_entry(stream, before, chain) then
    return {'stale', last}
  end
elseif stream_type ~= 'none' and (stream_type ~= 'stream' or goes_beyond(stream, own_id)) then
  local last = last_id(stream)
  if last == id and has_entry(stream, id, chain) then
    return {'ok', id}
  elseif last ~= takeover then
    return {'busy', last}
  end
  abandon = true
elseif takeover == USED then
  abandon = true
end

-- count_after returns how many documents each hash will have.
local function count_after()
  local count, exists = {}, {} -- exists: per hash, whether the documents that change are there
  for i, hash in ipairs(hashes) do
    count[i], exists[i] = redis.call('HLEN', hash), {}
  end
  for i = next_arg + 1, #ARGV, 4 do
    local kind, op, key = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
    local was = exists[kind][key]
    if was == nil then
      was = redis.call('HEXISTS', hashes[kind], key)
    end
    local is = op == 'put' and 1 or 0
    count[kind] = count[kind] + is - was
    exists[kind][key] = is
  end
  return count
end

for _, hash in ipairs(hashes) do
  local kind = type_of(hash)
  if kind ~= 'hash' and kind ~= 'none' then
    return {'corrupt', hash .. ' is a ' .. kind}
  end
end
if is_last then
  local count = count_after()
  for i, hash in ipairs(hashes) do
    if counts[i] ~= '' and count[i] ~= tonumber(counts[i]) then
      return {'corrupt', hash .. ' would have ' .. count[i] .. ' documents, the head says ' .. counts[i]}
    end
  end
end
local err = refusal(probe, KEYS)
if err then
  return {'refused', err}
end

-- stream_bytes returns what the head says that the stream holds; nil when that makes no sense.
local function stream_bytes()
  local text = redis.call('HSTRLEN', head, 'stream_bytes') <= MAX_VALUE and redis.call('HGET', head, 'stream_bytes')
  local n = text and tonumber(text)
  if n and n == n and n >= 0 and n <= 2 ^ 53 then
    return n
  end
end

-- succ returns the decimal number after one of any length.
local function succ(digits)
  local head_digits, nines = string.match(digits, '^(.-)(9*)$')
  local zeros = string.rep('0', #nines)
  if head_digits == '' then
    return '1' .. zeros
  end
  return string.sub(head_digits, 1, -2) .. string.format('%d', tonumber(string.sub(head_digits, -1)) + 1) .. zeros
end

-- trim takes the oldest publishes away whole, until the stream is within its bounds, but never the
-- one that was just written. It returns how many bytes are left. own is how many that one has, and before
-- how many all others have; when nobody knows, they all go.
local function trim(own, before)
  if not before then
    redis.call('XTRIM', stream, 'MINID', string.sub(id, 1, -PARTS_DIGITS - 1) .. '000')
    return own
  end
  local length, bytes = redis.call('XLEN', stream), before + own
  for _ = 1, MAX_TRIMS do
    if length <= max_entries and bytes <= max_bytes then
      break
    end
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local epoch, sequence = string.match(oldest[1], '^(%d+)%-(%d+)$')
    local revision = string.sub(sequence, 1, -PARTS_DIGITS - 1)
    local closing = epoch .. '-' .. revision .. CLOSING
    if closing == id then
      return own
    end
    local closed = oldest[1] == closing and oldest or redis.call('XRANGE', stream, closing, closing)[1]
    local freed = closed and tonumber(field(closed[2], 'bytes') or '')
    if freed and freed >= 0 and freed <= 2 ^ 53 then
      bytes = bytes - freed
    end
    redis.call('XTRIM', stream, 'MINID', epoch .. '-' .. succ(revision) .. '000')
    length = redis.call('XLEN', stream)
  end
  return math.max(bytes, own)
end

-- From here on nothing fails but XADD, for an id that cannot be used again.
if abandon then
  redis.call('UNLINK', stream)
  stream_type = 'none'
end
local added = redis.pcall('XADD', stream, id, unpack(entry))
if type(added) == 'table' and added.err then
  if not string.find(added.err, 'equal or smaller', 1, true) and not string.find(added.err, 'last possible ID', 1, true) then
    return {'refused', added.err}
  end
  return is_first and {'busy', USED} or {'stale', USED}
end
write(hashes)
if is_last then
  local before = 0
  if stream_type ~= 'none' then
    before = stream_bytes()
  end
  set_head(head, head_fields, trim(tonumber(field(entry, 'bytes')), before))
  return {'ok', id, announce(head, position)}
end
return {'ok', id}
