"""What is done to an installation under load: one function for each row of the table.

Each disturbs until it is told to end, and puts everything right again before it returns.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Event

import psycopg
import redis

from smsapi.plivo.simulator.faults import Rule
from tests.chaos.cluster import CALL_SECONDS, DOUBT_SECONDS, LEASE_SECONDS, Cluster
from tests.processes import send_signal

Disturb = Callable[[Cluster, Event], None]

# Kind, and whether Plivo has the message after it where the kind leaves that open.
_WAYS = (
    Rule("429", retry_after=1.0),
    Rule("429", retry_after=0.0),
    Rule("500"),
    Rule("500", taken=True),
    Rule("503"),
    Rule("503", retry_after=1.0),
    Rule("reset_before"),
    Rule("reset_after"),
    Rule("hang", seconds=CALL_SECONDS + 1),
    Rule("hang", seconds=CALL_SECONDS + 1, taken=True),
    Rule("html_200"),
    Rule("html_200", taken=True),
    Rule("wrong_json"),
    Rule("wrong_json", taken=False),
    Rule("slow", seconds=CALL_SECONDS / 2),
    # Taken after we have given the call up, and before anybody looks.
    Rule("slow", seconds=CALL_SECONDS + DOUBT_SECONDS / 8),
)


def failing(share: float) -> Sequence[Rule]:
    """Return rules by which Plivo fails in every way it can, each as often, together in this share of the calls."""
    each = 1 - (1 - share) ** (1 / len(_WAYS))
    return [Rule(way.kind, each, None, way.seconds, way.retry_after, way.taken) for way in _WAYS]


def everything(cluster: Cluster, until: Event) -> None:
    """Plivo fails in every way in one call of five, and a process is killed every second."""
    with _failing(cluster, 0.2):
        killed(cluster, until)


def killed(cluster: Cluster, until: Event) -> None:
    """A process is killed every second."""
    while not until.wait(1):
        cluster.kill_something()


def batch(cluster: Cluster, until: Event) -> None:
    """A worker is killed every second while one batch is sent, in joined calls that take Plivo a third of a second."""
    with _ruled(cluster, [Rule("slow", 1.0, None, 0.3)]):
        while not until.wait(1):
            cluster.kill_worker()


def frozen(cluster: Cluster, until: Event) -> None:
    """A process stands still for longer than its lease, and goes on as if nothing had happened."""
    while not until.wait(1):
        family = cluster.freeze_something()
        until.wait(LEASE_SECONDS + DOUBT_SECONDS + 3)
        for pid in reversed(family):
            send_signal(pid, signal.SIGCONT)
        cluster.note()


def redis_stopped(cluster: Cluster, until: Event) -> None:
    """Redis is killed, and comes back empty after three seconds."""
    while not until.wait(3):
        cluster.redis.kill()
        until.wait(3)
        cluster.redis.start()
        cluster.note()


def redis_flushed(cluster: Cluster, until: Event) -> None:
    """Redis forgets all it holds, twice a second."""
    with redis.Redis.from_url(cluster.redis.url) as connection:
        while not until.wait(0.5):
            connection.flushall()
            cluster.note()


def redis_slow(cluster: Cluster, until: Event) -> None:
    """Redis answers after up to a second, or not in time."""
    while not until.wait(0.3):
        cluster.redis.pause()
        until.wait(random.uniform(0.1, 1))
        cluster.redis.resume()
        cluster.note()


def postgres_restarted(cluster: Cluster, until: Event) -> None:
    """PostgreSQL is killed or stopped in order, and comes back."""
    while not until.wait(4):
        if random.random() < 0.5:
            cluster.postgres.kill()
            until.wait(1)
            cluster.postgres.start()
        else:
            cluster.postgres.restart()
        cluster.note()


def postgres_cut(cluster: Cluster, until: Event) -> None:
    """Every connection to PostgreSQL is cut, wherever it is in its transaction."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'smsapi'"
    with psycopg.connect(cluster.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        while not until.wait(random.uniform(0.2, 1)):
            connection.execute(cut)
            cluster.note()


def postgres_frozen(cluster: Cluster, until: Event) -> None:
    """PostgreSQL keeps its connections and answers nothing, for longer than a lease."""
    while not until.wait(4):
        cluster.postgres.pause()
        time.sleep(LEASE_SECONDS + 1)
        cluster.postgres.resume()
        cluster.note()


def log_gone(cluster: Cluster, until: Event) -> None:
    """No process can log: the reader is gone, the disk is full or nobody reads; Plivo fails, and one dies a second."""
    with cluster.logs_gone(), _failing(cluster, 0.2):
        killed(cluster, until)


def plivo_failing(cluster: Cluster, until: Event) -> None:
    """Plivo fails in every way in two calls of five."""
    with _failing(cluster, 0.4):
        until.wait()
    cluster.note()


def plivo_gone(cluster: Cluster, until: Event) -> None:
    """Nothing listens where Plivo was, for three seconds of fifteen."""
    # In between for longer than the circuit stays open: nothing would be sent otherwise.
    while not until.wait(3):
        cluster.simulator.stop()
        until.wait(3)
        cluster.simulator.start()
        cluster.note()
        until.wait(9)


def _failing(cluster: Cluster, share: float) -> AbstractContextManager[None]:
    return _ruled(cluster, failing(share))


@contextmanager
def _ruled(cluster: Cluster, rules: Sequence[Rule]) -> Iterator[None]:
    cluster.simulator.faults.replace(rules)
    yield
    cluster.simulator.faults.replace([])
