-- What the scripts share that publish.
local PARTS_DIGITS = 3    -- of an id, after the revision
local CLOSING = '999'     -- the digits of the last part

-- args returns as many of them as the next one says.
local function args()
  local list = {}
  for i = 1, tonumber(arg()) do
    list[i] = arg()
  end
  return list
end

local function same_base(a, b)
  return a[1] == b[1] and a[2] == b[2] and a[3] == b[3]
end

-- position_of returns a base as text.
local function position_of(base)
  return base[1] .. '-' .. base[2]
end

-- last_id returns the id of the last entry of a stream; '' when there is none, and for a key that
-- is no stream its type after a question mark.
local function last_id(stream)
  local kind = type_of(stream)
  if kind == 'none' then
    return ''
  elseif kind ~= 'stream' then
    return '?' .. kind
  end
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return last and last[1] or ''
end

-- goes_beyond reports whether a stream has an entry after an id.
local function goes_beyond(stream, id)
  return #redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 1) > 0
end

-- field returns a value of a list of names and values.
local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
end

-- has_entry reports whether a chain has written the entry with this id before: then a script runs again
-- because its answer was lost.
local function has_entry(stream, id, chain)
  if type_of(stream) ~= 'stream' then
    return false
  end
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if not entry then
    return false
  end
  return field(entry[2], 'chain') == chain
end

-- refusal returns the error with which Redis would refuse what a script is about to write: a right that is
-- missing, memory that is used up, a replica. It tries each command where it changes nothing.
-- probe is a key that nobody else uses; written are keys of any type.
local function refusal(probe, written)
  local tries = {
    -- The first asks for memory, too: after any other write command Redis does not look any more.
    {'XADD', probe, 'NOMKSTREAM', '*', 'probe', ''},
    {'UNLINK', probe},
    {'HDEL', probe, 'none'},
    {'XTRIM', probe, 'MINID', '0'},
    {'PERSIST', probe},
    -- Which are used after the first write:
    {'XLEN', probe}, {'XRANGE', probe, '0-1', '0-1'}, {'TIME'}, {'HSTRLEN', probe, 'none'}, {'HGET', probe, 'none'},
  }
  for _, key in ipairs(written) do
    tries[#tries + 1] = {'HDEL', key, '\0probe'}
  end
  tries[#tries + 1] = {'HSET', probe, 'probe', ''}
  tries[#tries + 1] = {'UNLINK', probe}
  for _, command in ipairs(tries) do
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err and not string.find(answer.err, 'WRONGTYPE', 1, true) then
      return answer.err
    end
  end
  return nil
end

-- set_head writes the head anew, so that no field of an older one stays.
local function set_head(head, fields, stream_bytes)
  redis.call('UNLINK', head)
  redis.call('HSET', head, 'stream_bytes', string.format('%.0f', stream_bytes), unpack(fields))
end

-- announce tells those who listen. It is a hint only, so that a publish does not fail without it: what Redis
-- refuses it with is returned.
local function announce(head, position)
  local answer = redis.pcall('PUBLISH', 'dp:config:refresh', '{"resource":"snapshot","version":"' .. position ..
    '","active_key":"' .. head .. '","timestamp":' .. redis.call('TIME')[1] .. '}')
  return type(answer) == 'table' and answer.err or nil
end

-- write applies what is left of the arguments to the hashes: four for each document, which are the
-- number of its hash, put or delete, its key, and its bytes.
local function write(hashes)
  local MAX_FIELDS = 400 -- names and documents of one HSET
  local fields, hash = {}, nil
  local function flush()
    if #fields > 0 then
      redis.call('HSET', hash, unpack(fields))
      fields = {}
    end
  end
  while next_arg < #ARGV do
    local its_hash, op, key, doc = hashes[tonumber(ARGV[next_arg + 1])], ARGV[next_arg + 2], ARGV[next_arg + 3], ARGV[next_arg + 4]
    next_arg = next_arg + 4
    if op ~= 'put' or its_hash ~= hash or #fields >= MAX_FIELDS then
      flush()
    end
    hash = its_hash
    if op == 'put' then
      fields[#fields + 1] = key
      fields[#fields + 1] = doc
    else
      redis.call('HDEL', hash, key)
    end
  end
  flush()
end

-- keys_from returns the KEYS after the first n.
local function keys_from(n)
  local list = {}
  for i = n + 1, #KEYS do
    list[i - n] = KEYS[i]
  end
  return list
end
