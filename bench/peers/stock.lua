#!lua name=stock
-- The work of bench/peers as a Redis Function library: what a team would write to sell from Redis.
-- A pair is a reserve of one id and the confirm of it. Both answer {word, state}; an id that came
-- before gets REPEAT and changes nothing.

-- KEYS: the sku's counters (hash), the reservation (hash), units by buyer (hash), deadlines (zset)
-- ARGV: reservation id, sku, buyer, units, most units of a buyer, deadline in ms
local function reserve(keys, arguments)
  local known = redis.call('HGET', keys[2], 'state')
  if known then return {'REPEAT', known} end
  local id, sku, buyer = arguments[1], arguments[2], arguments[3]
  local units, most = tonumber(arguments[4]), tonumber(arguments[5])
  local taken = tonumber(redis.call('HGET', keys[3], buyer) or 0)
  if taken + units > most then return {'LIMIT_REACHED', ''} end
  local available = tonumber(redis.call('HGET', keys[1], 'available') or 0)
  if available < units then return {'SOLD_OUT', ''} end
  redis.call('HINCRBY', keys[1], 'available', -units)
  redis.call('HINCRBY', keys[1], 'held', units)
  redis.call('HINCRBY', keys[3], buyer, units)
  redis.call('HSET', keys[2], 'state', 'HELD', 'sku', sku, 'buyer', buyer, 'units', units,
    'deadline', arguments[6])
  redis.call('ZADD', keys[4], arguments[6], id)
  return {'OK', 'HELD'}
end

-- KEYS: the sku's counters, the reservation, deadlines
-- ARGV: reservation id, seconds for which it is remembered
local function confirm(keys, arguments)
  local state = redis.call('HGET', keys[2], 'state')
  if not state then return {'UNKNOWN_RESERVATION', ''} end
  if state ~= 'HELD' then return {'REPEAT', state} end
  local units = tonumber(redis.call('HGET', keys[2], 'units'))
  redis.call('HINCRBY', keys[1], 'held', -units)
  redis.call('HINCRBY', keys[1], 'sold', units)
  redis.call('HSET', keys[2], 'state', 'CONFIRMED')
  redis.call('EXPIRE', keys[2], tonumber(arguments[2]))
  redis.call('ZREM', keys[3], arguments[1])
  return {'OK', 'CONFIRMED'}
end

redis.register_function('reserve', reserve)
redis.register_function('confirm', confirm)
