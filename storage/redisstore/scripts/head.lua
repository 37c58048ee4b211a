-- Returns the fields of the head. KEYS: head.
-- ARGV: how many fields, and bytes of names and values, a head has at most.
-- Answers none; wrong and the type of the key; huge and the base; or ok and the fields.
local head = KEYS[1]
local max_fields, max_bytes = tonumber(arg()), tonumber(arg())
local kind = type_of(head)
if kind == 'none' then
  return {'none'}
elseif kind ~= 'hash' then
  return {'wrong', kind}
end
local function huge()
  return {'huge', unpack(base_of(head))}
end
if redis.call('HLEN', head) > max_fields then
  return huge()
end
-- stream_bytes is no part of what is published.
local names, bytes = {}, 0
for _, name in ipairs(redis.call('HKEYS', head)) do
  if name ~= 'stream_bytes' then
    names[#names + 1] = name
    bytes = bytes + #name + redis.call('HSTRLEN', head, name)
  end
end
if bytes > max_bytes then
  return huge()
end
local answer = {'ok'}
if #names > 0 then
  for i, value in ipairs(redis.call('HMGET', head, unpack(names))) do
    answer[2 * i], answer[2 * i + 1] = names[i], value
  end
end
return answer
