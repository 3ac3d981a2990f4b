"""PostgreSQL and Redis of a benchmark: emptied, with the schema; started for it, or given by URL."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import redis

from benchmarks import store
from tests.services import start_postgres, start_redis


@dataclass(frozen=True)
class Servers:
    """URLs of both servers."""

    database_url: str
    redis_url: str

    def empty(self) -> None:
        """Remove all that is in both."""
        with store.opened(self.database_url), closing(redis.Redis.from_url(self.redis_url)) as client:
            client.flushdb()


@contextmanager
def servers(*, database_url: str | None, redis_url: str | None, durable: bool) -> Iterator[Servers]:
    """Provide both servers for the block, empty before and after it; those that are not given are started.

    Raises ServiceError where one is to be started and is not installed, or does not start.
    """
    with ExitStack() as stack:
        database_url = database_url or stack.enter_context(start_postgres(durable=durable)).url
        redis_url = redis_url or stack.enter_context(start_redis()).url
        found = Servers(database_url, redis_url)
        found.empty()
        stack.callback(found.empty)
        yield found
