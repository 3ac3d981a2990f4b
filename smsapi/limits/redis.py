"""Limits that all processes and hosts share, in Redis: one script, one round trip."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
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

# The same as gcra.given_back. A token's mark follows its key where the charge has one: without it nothing is undone.
_BACK_SCRIPT = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local k = 0
for a = 2, #ARGV, 4 do
  k = k + 1
  local key, interval, burst, back = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local spent = true
  if ARGV[a + 3] == '1' then
    k = k + 1
    spent = tonumber(redis.call('GET', KEYS[k]) or 0) > now
    redis.call('DEL', KEYS[k])
  end
  local value = redis.call('GET', key)
  if spent and value then
    local colon = string.find(value, ':', 1, true)
    local at, was = tonumber(string.sub(value, 1, colon - 1)), tonumber(string.sub(value, colon + 1))
    local debt = at - now
    if was ~= interval then debt = math.ceil(debt / was) * interval end
    if debt > burst then debt = burst end
    debt = debt - back
    if debt > 0 then
      local ttl = math.ceil(debt / 1000) + GRACE_MS
      redis.call('SET', key, string.format('%.0f:%.0f', now + debt, interval), 'PX', string.format('%.0f', ttl))
    else
      redis.call('DEL', key)
    end
  end
end
return 0
"""
# So many decisions a round trip take a fraction of the shortest time-out that makes sense.
_AT_ONCE = 250


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
        self._script = _Script(_SCRIPT, grace_seconds)
        self._back_script = _Script(_BACK_SCRIPT, grace_seconds)
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

    def decide_each(
        self, groups: Sequence[Sequence[Charge]], *, spend: bool, once: str | None = None
    ) -> Sequence[Verdict]:
        """Decide each group in a step of its own, hundreds a round trip. Raises ``LimitStoreDown``."""
        found: list[Verdict] = []
        for at in range(0, len(groups), _AT_ONCE):
            some = groups[at : at + _AT_ONCE]
            flat = self._evaluate(self._script, [self._asked(charges, once=once, spend=spend) for charges in some])
            found += [_verdict(charges, each) for charges, each in zip(some, flat, strict=True)]
        return found

    def give_back(self, charges: Sequence[Charge], *, once: str | None = None, seconds_ago: float = 0.0) -> None:
        """Undo what was spent, hundreds a round trip; see ``LimitStore.give_back``. Raises ``LimitStoreDown``."""
        ago_us = int(seconds_ago * SECOND_US)
        calls = [self._asked_back(charge, once, max(0, charge.cost_us - max(0, ago_us))) for charge in charges]
        for at in range(0, len(calls), _AT_ONCE):
            self._evaluate(self._back_script, calls[at : at + _AT_ONCE])

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        self._pool.disconnect()

    def _run(self, charges: Sequence[Charge], *, once: str | None, spend: bool) -> Verdict:
        if not charges:
            return verdict_of(charges, ())
        return _verdict(charges, self._evaluate(self._script, [self._asked(charges, once=once, spend=spend)])[0])

    def _asked(self, charges: Sequence[Charge], *, once: str | None, spend: bool) -> "_Call":
        keys: list[str] = []
        arguments: list[str | int] = [self._now(), int(spend)]
        for charge in charges:
            window = charge.window
            keys.append(PREFIX + fingerprint(charge.key))
            once_us = 0
            if charge.once_seconds and once is not None:
                keys.append(PREFIX + fingerprint(charge.key, once))
                once_us = charge.once_seconds * SECOND_US
            arguments += (window.interval_us, window.burst_us, charge.cost_us, window.seconds * SECOND_US, once_us)
        return keys, arguments

    def _asked_back(self, charge: Charge, once: str | None, back_us: int) -> "_Call":
        keys, is_marked = [PREFIX + fingerprint(charge.key)], once is not None and charge.once_seconds > 0
        if once is not None and is_marked:
            keys.append(PREFIX + fingerprint(charge.key, once))
        return keys, [self._now(), charge.window.interval_us, charge.window.burst_us, back_us, int(is_marked)]

    def _now(self) -> str | int:
        return "" if self._clock is None else now_us(self._clock)

    def _evaluate(self, script: "_Script", calls: "Sequence[_Call]") -> list[list[int]]:
        commands = [("EVALSHA", script.sha1, len(keys), *keys, *rest) for keys, rest in calls]
        try:
            try:
                found = self._ask(commands)
            except NoScriptError:
                # A restarted or flushed server has forgotten the script, so nothing was done; EVAL teaches it again.
                keys, rest = calls[0]
                found = self._ask([("EVAL", script.text, len(keys), *keys, *rest), *commands[1:]])
        except (RedisError, OSError) as error:
            raise LimitStoreDown(f"Redis cannot decide a limit: {type(error).__name__}") from error
        return cast(list[list[int]], found)

    def _ask(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        # Not by redis.Redis, whose retries, hooks and metrics around each command cost as much as the command itself.
        # What a pool gives is connected and has nothing left to read; a connection that fails closes itself.
        connection: Any = self._pool.get_connection()
        try:
            if len(commands) == 1:
                connection.send_command(*commands[0], check_health=False)
            else:
                connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = [_answer_of(connection) for _ in commands]
        finally:
            self._pool.release(connection)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers


_Call = tuple[list[str], list[str | int]]


class _Script:
    def __init__(self, text: str, grace_seconds: int) -> None:
        self.text = text.replace("GRACE_MS", str(grace_seconds * 1000))
        self.sha1 = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _answer_of(connection: Any) -> Any:
    # Every answer has to be read, or the next one who is given the connection would read it for his own.
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _verdict(charges: Sequence[Charge], flat: Sequence[int]) -> Verdict:
    return verdict_of(charges, map(Finding, flat[::2], flat[1::2]))
