"""Prometheus gauges of the queue: they belong to the store and not to a process, which only asks for them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from smsapi.messages.lanes import name_of
from smsapi.monitoring.figures import Figures

STOPS = ("account", "circuit", "pause")


def gauges_of(figures: Figures) -> Iterator[Metric]:
    """Yield the gauges, each with all its labels."""
    depth = GaugeMetricFamily("smsapi_queue_depth", "Due messages that wait to be sent, by lane.", labels=["lane"])
    oldest = GaugeMetricFamily(
        "smsapi_queue_oldest_seconds",
        "For how long the oldest due message of the lane has been due; 0 where none is.",
        labels=["lane"],
    )
    for lane, load in figures.lanes.items():
        depth.add_metric([name_of(lane)], load.waiting)
        oldest.add_metric([name_of(lane)], figures.oldest_seconds(lane))
    yield from (depth, oldest)
    yield from _unknown(figures)
    yield _gauge("smsapi_workers_alive", "Processes that send whose heartbeat is young.", figures.workers_alive)
    yield _gauge("smsapi_batch_rows_waiting", "Rows of batches that are due and not messages yet.", figures.batch_rows)
    yield _gauge(
        "smsapi_unfinished_oldest_seconds",
        "For how long the oldest message has been due whose call was interrupted, or whose outcome is to be looked up.",
        figures.unfinished_seconds,
    )
    stopped = GaugeMetricFamily(
        "smsapi_stopped",
        "1 while a gate is closed: circuit (Plivo fails), account (Plivo refuses the account), pause (all, or a lane).",
        labels=["gate"],
    )
    for gate in STOPS:
        stopped.add_metric([gate], gate in figures.stops)
    yield stopped


def _unknown(figures: Figures) -> Iterator[Metric]:
    unknown = GaugeMetricFamily(
        "smsapi_unknown",
        "Live messages whose outcome is unknown: in_doubt is being looked for, held waits for a person.",
        labels=["state"],
    )
    unknown.add_metric(["in_doubt"], figures.unknown.in_doubt)
    unknown.add_metric(["held"], figures.unknown.held)
    yield unknown
    since = figures.unknown.oldest_at
    yield _gauge(
        "smsapi_unknown_oldest_seconds",
        "Age of the oldest message whose outcome is unknown, those held for a person included; 0 where none is.",
        0.0 if since is None else max(0.0, (figures.at - since).total_seconds()),
    )


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
