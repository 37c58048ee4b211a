-- Forgets nodes, unless they have reported since. KEYS: nodes. ARGV: id and
-- what it held, in turn.
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return {'ok', ''}
