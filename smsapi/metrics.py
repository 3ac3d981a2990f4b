"""Prometheus metrics: one set for each app, right under several processes where PROMETHEUS_MULTIPROC_DIR is set."""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import update_wrapper
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from smsapi.errors import Unavailable
from smsapi.log import get_logger

log = get_logger()

_Given = ParamSpec("_Given")

_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_Count: TypeAlias = "Callable[Concatenate[Metrics, _Given], None]"


def _never_raising(count: "_Count[_Given]") -> "_Count[_Given]":
    """Make a method of something that is counted, or is not: whoever counts has something more important to do."""

    def counted(self: "Metrics", /, *args: _Given.args, **kwargs: _Given.kwargs) -> None:
        try:
            count(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the files of several processes are on a disk, which may be full
            self.note_failure(error)

    update_wrapper(counted, count)
    return counted


class Metrics:
    """What is counted. Labels are route rules and outcomes, never numbers or ids.

    Counting never raises: what cannot be counted is logged once and then let be.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._has_failed = False
        self._limits_degraded: Callable[[], bool] = lambda: False
        self._of_store: Callable[[], Iterable[Metric]] = tuple
        self._requests = Histogram(
            "smsapi_request_seconds",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=registry,
            buckets=_REQUEST_BUCKETS,
        )
        self._attempts = Counter(
            "smsapi_attempts_total", "Calls to the provider by outcome.", ("provider", "outcome"), registry=registry
        )
        self._attempt_seconds = Histogram(
            "smsapi_attempt_seconds",
            "How long calls to the provider took.",
            ("provider",),
            registry=registry,
            buckets=_REQUEST_BUCKETS,
        )
        self._messages = Counter(
            "smsapi_messages_total", "Messages that came to a status.", ("status", "mode"), registry=registry
        )
        self._receipts = Counter(
            "smsapi_receipts_total", "Delivery reports by what they did.", ("result",), registry=registry
        )
        self._inbound = Counter(
            "smsapi_inbound_total", "Inbound texts by what was done with them.", ("result",), registry=registry
        )
        self._forwarded = Counter(
            "smsapi_untrusted_forwarded_total",
            "Requests with X-Forwarded-For while no proxy is trusted (SMSAPI_TRUSTED_PROXIES).",
            registry=registry,
        )
        self._webhooks = Histogram(
            "smsapi_webhook_seconds",
            "Attempts to tell an endpoint of an event, by outcome.",
            ("outcome",),
            registry=registry,
            buckets=_REQUEST_BUCKETS,
        )
        self._log_dropped = Counter(
            "smsapi_log_dropped_total",
            "Log lines that could not be written: their reader is gone or does not read, or the disk is full.",
            registry=registry,
        )
        self._log_lines_dropped = Counter(
            "smsapi_log_lines_dropped_total", "The former name of smsapi_log_dropped_total.", registry=registry
        )
        self._set_aside = Counter(
            "smsapi_set_aside_total",
            "Rows that could not be handled and were put aside until later, by what was to be done with them.",
            ("what",),
            registry=registry,
        )
        self._degraded = Gauge(
            "smsapi_limits_degraded",
            "1 while limits are counted in the process because Redis is gone.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def note_failure(self, error: Exception) -> None:
        """Log that something could not be counted, once."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("metrics_failed", reason=type(error).__name__)

    @_never_raising
    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; a method that HTTP does not know is not a label of its own."""
        known = method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    @_never_raising
    def observe_attempt(self, provider: str, outcome: str, seconds: float) -> None:
        """Count a call to the provider."""
        self._attempts.labels(provider, outcome).inc()
        self._attempt_seconds.labels(provider).observe(seconds)

    @_never_raising
    def count_message(self, status: str, *, test: bool, times: int = 1) -> None:
        """Count a message, or so many, that came to this status."""
        self._messages.labels(status, "test" if test else "live").inc(times)

    @_never_raising
    def count_receipt(self, result: str) -> None:
        """Count a delivery report: applied, repeated, refused, or for a message that is not ours."""
        self._receipts.labels(result).inc()

    @_never_raising
    def count_inbound(self, result: str) -> None:
        """Count an inbound text: stored, repeated, refused, or not understood."""
        self._inbound.labels(result).inc()

    @_never_raising
    def count_untrusted_forwarded(self) -> None:
        """Count a request that came by a proxy which SMSAPI_TRUSTED_PROXIES does not count with."""
        self._forwarded.inc()

    @_never_raising
    def observe_webhook(self, outcome: str, seconds: float) -> None:
        """Count an attempt to tell an endpoint: delivered, or refused where it answered otherwise or not at all."""
        self._webhooks.labels(outcome).observe(seconds)

    @_never_raising
    def count_set_aside(self, what: str) -> None:
        """Count a row that could not be handled: ``send``, or the chore that it was to have."""
        self._set_aside.labels(what).inc()

    def count_dropped_log_lines(self, lines: int) -> None:
        """Count lines that the log could not take. Never raises, and logs nothing."""
        for each in (self._log_dropped, self._log_lines_dropped):
            with suppress(Exception):
                each.inc(lines)

    def watch(self, *, limits_degraded: Callable[[], bool], of_store: Callable[[], Iterable[Metric]]) -> None:
        """Set what ``refresh`` looks up, and what ``expose`` asks the store for.

        ``of_store`` gives the metrics that all processes see alike: they are in no file that processes share, and none
        of them is added up.
        """
        self._limits_degraded, self._of_store = limits_degraded, of_store

    def refresh(self) -> None:
        """Look up how things stand in this process; the others that share a directory see no more than was written."""
        self._degraded.set(self._limits_degraded())

    def expose(self) -> bytes:
        """Return the text form, of all processes where they share a directory, and with what the store says.

        Where the store does not answer, its metrics are left out, and ``smsapi_store_up`` is 0.
        """
        self.refresh()
        store = CollectorRegistry()
        store.register(_Asked(self._ask_store()))
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry) + generate_latest(store)
        registry = CollectorRegistry()
        _AllProcesses(registry)
        return generate_latest(registry) + generate_latest(store)

    def _ask_store(self) -> Iterable[Metric]:
        try:
            found = list(self._of_store())
        except Unavailable:
            found, is_up = [], False
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest can be told without the store
            self.note_failure(error)
            found, is_up = [], False
        else:
            is_up = True
        return [GaugeMetricFamily("smsapi_store_up", "1 while the store answers, else 0.", value=is_up), *found]


class _Asked(Collector):
    """Metrics as they were found."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _is_begun(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # its process has just died
        return False


class _AllProcesses(MultiProcessCollector):
    """What all processes that share the directory have counted.

    A file that a process has only just made is empty, and the library cannot read that; nothing is counted in it yet.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in Path(self._path).glob("*.db") if _is_begun(path)]
        merged: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return merged


def serve_metrics(host: str, port: int) -> bool:
    """Show the metrics of all processes that share a directory, on a thread of this process.

    Return False where another process has the port already, which shows the same.
    """
    registry = CollectorRegistry()
    _AllProcesses(registry)
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
