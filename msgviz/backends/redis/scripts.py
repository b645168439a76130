"""What has to happen at once on the server, in its Lua; all of it by the server's own clock.

`KEYS` are always keys of one topic. What a script moves is added at its new place before it is taken
from the old one, so that an error in between (out of memory, say) loses nothing.
"""

from __future__ import annotations

RELEASED = "msgviz-released"
"""The consumer that owns what was given back: so the consumer of a server that ends can be removed."""

_COMMON = f"""
local function released(key, group, pending)
  redis.call('XCLAIM', key, group, '{RELEASED}', 0, pending[1],
    'IDLE', 315360000000, 'RETRYCOUNT', math.max(pending[4] - 1, 0), 'JUSTID')
end
local function own(key, group, consumer, id)
  return redis.call('XPENDING', key, group, id, id, 1, consumer)[1]
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function from(first)
  local rest = {{}}
  for i = first, #ARGV do rest[#rest + 1] = ARGV[i] end
  return rest
end
local function later(key, delay, token, arguments)
  local time = now()
  local due = time + tonumber(delay)
  redis.call('ZADD', key, due < 1e300 and string.format('%.0f', due) or '+inf',
    string.format('%017.0f', time) .. token .. cmsgpack.pack(arguments))
end
"""

MAKE = """
-- KEYS topic, mark, one stream of its own for each group. ARGV create, mark, the groups.
-- Gives '' or the name of what is missing and is not to be made: 'topic', or 'subscription' and which.
local groups, some = {}, false
local exists = redis.call('EXISTS', KEYS[1]) == 1
if not exists and ARGV[1] == '0' then return {'topic'} end
if exists then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    groups[info[2]] = true
    some = true
  end
end
for i = 3, #ARGV do
  if not groups[ARGV[i]] and ARGV[1] == '0' then return {'subscription', ARGV[i]} end
end
if not exists or ARGV[2] == '1' then redis.call('SET', KEYS[2], '1') end
for i = 3, #ARGV do
  if not groups[ARGV[i]] then
    redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[i], some and '$' or '0', 'MKSTREAM')
    groups[ARGV[i]] = true
    some = true
  end
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[i], '0', 'MKSTREAM')
  if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then return made end
end
return {}
"""

TAKE = """
-- KEYS two streams, the one to read first in front. ARGV group, consumer, count, lease in ms, claim.
-- Gives {number of the stream, id, deliveries, fields}; no deliveries for one that nobody had before.
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local taken = {}
if ARGV[5] == '1' then
  for i, key in ipairs(KEYS) do
    if left > 0 then
      for _, p in ipairs(redis.call('XPENDING', key, group, 'IDLE', ARGV[4], '-', '+', left)) do
        local entry = redis.call('XCLAIM', key, group, consumer, 0, p[1])[1]
        if entry and entry[2] then
          taken[#taken + 1] = {i, p[1], p[4] + 1, entry[2]}
          left = left - 1
        else
          redis.call('XACK', key, group, p[1])
        end
      end
    end
  end
end
for i, key in ipairs(KEYS) do
  if left > 0 then
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', key, '>')
    for _, entry in ipairs(read and read[1][2] or {}) do
      taken[#taken + 1] = {i, entry[1], 0, entry[2]}
      left = left - 1
    end
  end
end
return taken
"""

DELAY = (
    _COMMON
    + """
-- KEYS later. ARGV delay in us, a token of 16 characters, the arguments of XADD.
later(KEYS[1], ARGV[1], ARGV[2], from(3))
return 1
"""
)

PROMOTE = (
    _COMMON
    + """
-- KEYS later. Moves what is due to its stream; gives the us until the next is due, -1 for none.
local time = now()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', time), 'LIMIT', 0, 100)
local failed = false
for _, member in ipairs(due) do
  local added = redis.pcall('XADD', unpack(cmsgpack.unpack(string.sub(member, 34))))
  if type(added) == 'table' and added.err then
    failed = added
  else
    redis.call('ZREM', KEYS[1], member)
  end
end
if failed then return failed end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if not next[2] then return -1 end
return math.max(0, math.min(tonumber(next[2]) - time, 1e12))
"""
)

RETRY = (
    _COMMON
    + """
-- KEYS the entry's stream, the subscription's own, later.
-- ARGV group, consumer, id, delay in us, a token of 16 characters, fields and values.
if not own(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
local arguments = from(6)
table.insert(arguments, 1, '*')
table.insert(arguments, 1, KEYS[2])
if tonumber(ARGV[4]) > 0 then
  later(KEYS[3], ARGV[4], ARGV[5], arguments)
else
  redis.call('XADD', unpack(arguments))
end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
"""
)

RELEASE = (
    _COMMON
    + """
-- KEYS the entry's stream. ARGV group, consumer, id.
local pending = own(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
if not pending then return 0 end
released(KEYS[1], ARGV[1], pending)
return 1
"""
)

EXTEND = (
    _COMMON
    + """
-- KEYS both streams. ARGV group, consumer, then the number of a stream and an id, for each entry.
for i = 3, #ARGV, 2 do
  local key = KEYS[tonumber(ARGV[i])]
  if own(key, ARGV[1], ARGV[2], ARGV[i + 1]) then
    redis.call('XCLAIM', key, ARGV[1], ARGV[2], 0, ARGV[i + 1], 'IDLE', 0, 'JUSTID')
  end
end
return 1
"""
)

GIVE_UP = (
    _COMMON
    + """
-- KEYS both streams. ARGV group, consumer, 'leave' or 'stay', then number:id of what it still holds.
-- Gives back what a consumer does not know that it has; a consumer that leaves is removed.
local held = {}
for i = 4, #ARGV do held[ARGV[i]] = true end
for i, key in ipairs(KEYS) do
  local pending = redis.pcall('XPENDING', key, ARGV[1], '-', '+', 10000, ARGV[2])
  if not pending.err then
    for _, p in ipairs(pending) do
      if not held[i .. ':' .. p[1]] then released(key, ARGV[1], p) end
    end
    if ARGV[3] == 'leave' then
      if not redis.call('XPENDING', key, ARGV[1], '-', '+', 1, ARGV[2])[1] then
        redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], ARGV[2])
      end
    else
      for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', key, ARGV[1])) do
        -- what consumers that were killed left of themselves, when others have taken all they had
        if info[4] == 0 and info[6] > 3600000 and string.sub(info[2], 1, 7) == 'msgviz-' then
          redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], info[2])
        end
      end
    end
  end
end
return 1
"""
)

TRIM = """
-- KEYS the streams. Removes the entries that every group has acknowledged; gives how many.
local function less(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am == bm then am, bm = as, bs end
  if #am ~= #bm then return #am < #bm end
  return am < bm
end
local removed = 0
for _, key in ipairs(KEYS) do
  local limit, whole = nil, false
  if redis.call('EXISTS', key) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      local id, done = info[8], true
      if info[6] > 0 then id, done = redis.call('XPENDING', key, info[2])[2], false end
      if not limit or less(id, limit) then
        limit, whole = id, done
      elseif id == limit then
        whole = whole and done
      end
    end
  end
  if limit then
    removed = removed + redis.call('XTRIM', key, 'MINID', '=', limit)
    if whole then removed = removed + redis.call('XDEL', key, limit) end
  end
end
return removed
"""
