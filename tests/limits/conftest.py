"""The stores under test: a fresh one in memory and a fresh key space in a real Redis, on one manual clock."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from smsapi.clock import ManualClock
from smsapi.limits.memory import MemoryStore
from smsapi.limits.redis import RedisStore
from smsapi.limits.store import LimitStore


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url, socket_timeout=5, decode_responses=True)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture(params=["memory", "redis"])
def store(request, clock) -> Iterator[LimitStore]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    request.getfixturevalue("server")
    shared = RedisStore(request.getfixturevalue("redis_url"), clock=clock, timeout_seconds=5)
    yield shared
    shared.close()
