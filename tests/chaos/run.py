"""One row: an installation under load, disturbed, left alone until all is settled, and counted."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from smsapi.errors import StoreUnavailable
from tests.chaos import rows
from tests.chaos.callers import Callers, orders
from tests.chaos.cluster import Cluster
from tests.chaos.rows import Disturb
from tests.chaos.tally import Tally, count, count_unsettled, stories
from tests.chaos.uploader import Uploader

_POLL_SECONDS = 0.1
_THREADS = 16
# It is disturbed until nearly all are with Plivo, so that what is killed has something to do.
_NEARLY = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """What a row came to. ``recovered_seconds`` is how long it took to settle everything once nothing disturbed."""

    name: str
    tally: Tally
    recovered_seconds: float
    lasted_seconds: float
    deaths: int
    stories: tuple[str, ...]


def run(
    cluster: Cluster,
    disturb: Disturb,
    *,
    messages: int,
    per_second: float = 1e9,
    load_seconds: float = 900.0,
    settle_seconds: float = 300.0,
) -> Result:
    """Have so many messages sent while ``disturb`` does its worst; return what became of them.

    It is disturbed for ``load_seconds`` at the most, and left alone for ``settle_seconds`` after that; what is not
    settled by then is ``unknown``.
    """
    until, started = Event(), time.monotonic()
    nearly = messages * _NEARLY
    with ThreadPoolExecutor(1) as executor, _load(cluster, disturb, messages, per_second) as callers:
        disturbing = executor.submit(disturb, cluster, until)
        try:
            _wait(lambda: callers.are_done() and cluster.simulator.store.count() >= nearly, load_seconds)
        finally:
            until.set()
        disturbing.result()
        _wait(lambda: callers.are_done() and _is_settled(cluster), settle_seconds)
        ended = time.monotonic()
        alone_at = max(cluster.disturbed_at, callers.ledger.last_acknowledged_at)
    # Counted when nobody is left who could send one more.
    cluster.end()
    tally = count(cluster.store, cluster.simulator.store.texts_by_number(), callers.ledger)
    told = tuple(stories(cluster.store, tally, callers.ledger))
    return Result(disturb.__name__, tally, ended - alone_at, ended - started, cluster.deaths, told)


def _load(cluster: Cluster, disturb: Disturb, messages: int, per_second: float) -> Callers | Uploader:
    if disturb is rows.batch:
        return Uploader(cluster.urls, cluster.key, messages)
    wanted = itertools.islice(orders(), messages)
    return Callers(cluster.urls, cluster.key, wanted, threads=_THREADS, per_second=per_second)


def _is_settled(cluster: Cluster) -> bool:
    try:
        return count_unsettled(cluster.store) == 0
    except StoreUnavailable:
        return False


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
