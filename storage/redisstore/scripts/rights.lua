-- Tries every command that a control plane runs, where it changes nothing. KEYS: probe, head, stream, nodes,
-- index, beat. Answers ok, and then for each command that Redis refuses its name and the error.
local probe, head, stream, nodes, index, beat = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local NONE = '\0probe' -- a name that nothing has

local answer = {'ok'}
for _, try in ipairs({
  {'XADD', probe, 'NOMKSTREAM', '*', NONE, ''}, -- the first also asks for memory, see refusal
  {'UNLINK', probe},
  {'TYPE', probe}, {'EXISTS', probe}, {'PERSIST', probe}, {'PEXPIRE', probe, '1'}, {'PTTL', probe}, {'RENAME', probe, probe},
  {'TIME'},
  {'HSCAN', probe, '0'}, {'HGET', head, NONE}, {'HMGET', head, NONE}, {'HKEYS', probe},
  {'HLEN', head}, {'HEXISTS', head, NONE}, {'HSTRLEN', head, NONE}, {'HDEL', head, NONE},
  {'XLEN', stream}, {'XRANGE', stream, '0-1', '0-1'}, {'XREVRANGE', stream, '0-1', '0-1'},
  {'XREAD', 'COUNT', '1', 'STREAMS', stream, '18446744073709551615-18446744073709551615'},
  {'XTRIM', stream, 'MINID', '0'},
  {'GETRANGE', beat, '0', '0'}, {'SET', probe, '', 'XX'},
  {'HDEL', nodes, NONE}, {'ZADD', index, 'XX', '0', NONE}, {'ZREM', index, NONE}, {'ZCARD', index}, {'ZSCORE', index, NONE},
  {'ZMSCORE', index, NONE}, {'ZCOUNT', index, '0', '0'}, {'ZRANGE', index, '0', '0'},
  {'ZRANGEBYSCORE', index, '0', '0'}, {'ZREVRANGEBYSCORE', index, '0', '0'},
  {'HSET', probe, NONE, ''}, {'UNLINK', probe},
}) do
  local result = redis.pcall(unpack(try))
  local err = type(result) == 'table' and result.err
  if err and not string.find(err, 'WRONGTYPE', 1, true) and not string.find(err, 'no such key', 1, true) then
    answer[#answer + 1] = string.lower(try[1])
    answer[#answer + 1] = err
  end
end
return answer
