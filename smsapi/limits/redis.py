"""Limits that all processes and hosts share, in Redis: one script, one round trip."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from smsapi.clock import Clock
from smsapi.limits.gcra import SECOND_US, Charge, Finding, Verdict, verdict_of
from smsapi.limits.store import LimitStoreDown, fingerprint, now_us

# The algorithm and the layout of a value are part of the name: a release that changes either must not read the other's.
PREFIX = "smsapi:limit:gcra1:"

# The same decision as gcra.decide, and held to it by a test. It reads everything before it writes anything, because
# Redis does not undo a script that fails half-way. Numbers go out by '%.0f': Lua's own form keeps 14 digits only.
_SCRIPT = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local spending = ARGV[2] == '1'
local allowed = true
-- By key: when it is clear and at which interval that was written, as stored and as it would be after this request.
local clear_at, interval_of, dirty = {}, {}, {}
local old_clear_at, old_interval_of = {}, {}

local function debt_of(at, was, interval, burst)
  local debt = at - now
  if debt <= 0 then return 0 end
  if was ~= interval then debt = math.ceil(debt / was) * interval end
  if debt > burst then return burst end
  return debt
end

local waits, keys, marks, mark_windows = {}, {}, {}, {}
local k, n = 0, 0
for a = 3, #ARGV, 5 do
  n, k = n + 1, k + 1
  local key = KEYS[k]
  local interval, burst, cost = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  keys[n], waits[n] = key, 0
  if not clear_at[key] then
    local value = redis.call('GET', key)
    local at, was = 0, 1
    if value then
      local colon = string.find(value, ':', 1, true)
      at, was = tonumber(string.sub(value, 1, colon - 1)), tonumber(string.sub(value, colon + 1))
    end
    clear_at[key], interval_of[key] = at, was
    old_clear_at[key], old_interval_of[key] = at, was
  end
  local paid = false
  local once = tonumber(ARGV[a + 4])
  if once > 0 then
    k = k + 1
    paid = tonumber(redis.call('GET', KEYS[k]) or 0) > now
    if not paid then
      marks[#marks + 1] = KEYS[k]
      mark_windows[#marks] = once
    end
  end
  if not paid then
    local debt = debt_of(clear_at[key], interval_of[key], interval, burst) + cost
    if burst == 0 or cost > burst then
      waits[n] = tonumber(ARGV[a + 3])
    elseif debt > burst then
      waits[n] = debt - burst
    end
    if waits[n] > 0 then allowed = false end
    if cost > 0 then clear_at[key], interval_of[key], dirty[key] = now + debt, interval, true end
  end
end

if allowed and spending then
  -- The grace keeps a key alive where the time is told by clocks that are behind this server's.
  for key in pairs(dirty) do
    local at = clear_at[key]
    local ttl = math.ceil((at - now) / 1000) + GRACE_MS
    redis.call('SET', key, string.format('%.0f:%.0f', at, interval_of[key]), 'PX', string.format('%.0f', ttl))
  end
  for i, mark in ipairs(marks) do
    local ttl = math.ceil(mark_windows[i] / 1000) + GRACE_MS
    redis.call('SET', mark, string.format('%.0f', now + mark_windows[i]), 'PX', string.format('%.0f', ttl))
  end
else
  clear_at, interval_of = old_clear_at, old_interval_of
end
local findings = {}
for i = 1, n do
  local a, key = 5 * i - 2, keys[i]
  findings[2 * i - 1] = debt_of(clear_at[key], interval_of[key], tonumber(ARGV[a]), tonumber(ARGV[a + 1]))
  findings[2 * i] = waits[i]
end
return findings
"""


class RedisStore:
    """A ``LimitStore`` in one Redis server, version 5 or newer.

    Redis Cluster is not supported: the keys of one request may lie on different nodes there. Connects on first use,
    and again in a forked child, so it may be made before a server forks. Time is the server's own, so that hosts with
    different clocks agree; a ``clock`` replaces it in tests, which then say by ``grace_seconds`` how far the server's
    own may run ahead before a key is gone. Each call takes at most about ``timeout_seconds`` to connect and as much for
    the answer, and is never repeated. Raises ``ValueError`` at construction for a bad URL.
    """

    def __init__(
        self, url: str, *, clock: Clock | None = None, timeout_seconds: float = 0.1, grace_seconds: int = 1
    ) -> None:
        self._clock = clock
        self._script = _SCRIPT.replace("GRACE_MS", str(grace_seconds * 1000))
        self._sha1 = sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        # Spelled out because redis-py waits 5 s and tries up to ten times by default, and a rate limit must not.
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            health_check_interval=0,
            protocol=2,
        )

    def spend(self, charges: Sequence[Charge], *, once: str | None = None) -> Verdict:
        """Decide and spend all charges in one round trip; see ``LimitStore.spend``. Raises ``LimitStoreDown``."""
        return self._run(charges, once=once, spend=True)

    def peek(self, charges: Sequence[Charge]) -> Verdict:
        """Return the standing of all charges in one round trip; spends nothing. Raises ``LimitStoreDown``."""
        return self._run(charges, once=None, spend=False)

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        self._pool.disconnect()

    def _run(self, charges: Sequence[Charge], *, once: str | None, spend: bool) -> Verdict:
        if not charges:
            return verdict_of(charges, ())
        keys: list[str] = []
        arguments: list[str | int] = ["" if self._clock is None else now_us(self._clock), int(spend)]
        for charge in charges:
            window = charge.window
            keys.append(PREFIX + fingerprint(charge.key))
            once_us = 0
            if charge.once_seconds and once is not None:
                keys.append(PREFIX + fingerprint(charge.key, once))
                once_us = charge.once_seconds * SECOND_US
            arguments += (window.interval_us, window.burst_us, charge.cost_us, window.seconds * SECOND_US, once_us)
        flat = self._evaluate(keys, arguments)
        return verdict_of(charges, map(Finding, flat[::2], flat[1::2]))

    def _evaluate(self, keys: list[str], arguments: list[str | int]) -> list[int]:
        try:
            try:
                found = self._ask("EVALSHA", self._sha1, len(keys), *keys, *arguments)
            except NoScriptError:
                # A restarted or flushed server has forgotten the script; EVAL teaches it again.
                found = self._ask("EVAL", self._script, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            raise LimitStoreDown(f"Redis cannot decide a limit: {type(error).__name__}") from error
        return cast(list[int], found)

    def _ask(self, *command: str | int) -> Any:
        # Not by redis.Redis, whose retries, hooks and metrics around each command cost as much as the command itself.
        # What a pool gives is connected and has nothing left to read; a connection that fails closes itself.
        connection: Any = self._pool.get_connection()
        try:
            connection.send_command(*command, check_health=False)
            return connection.read_response()
        finally:
            self._pool.release(connection)
