-- Records what a node has applied. KEYS: nodes. ARGV: id, a JSON object that
-- lacks the value of its last field and the closing brace.
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. t[1] .. '.' .. string.sub('000000' .. t[2], -6) .. '}')
return {'ok', t[1]}
