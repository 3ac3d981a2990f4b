"""Dependencies of this service on the outside world, typed and frozen; built once, in ``smsapi.app``."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random
from threading import Semaphore
from typing import Any
from uuid import UUID

from smsapi.bell import Bell
from smsapi.clock import Clock
from smsapi.db import Database
from smsapi.gathering import Crowd, Gatherer, Slots
from smsapi.health import Health
from smsapi.limits.store import LimitStore
from smsapi.metrics import Metrics
from smsapi.plivo.outcomes import Provider
from smsapi.plivo.retry import RetryPolicy
from smsapi.pressure import Pressure
from smsapi.remembered import Remembered
from smsapi.settings import Settings
from smsapi.sms.prices import PriceList


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Everything that is not ours to decide; a test replaces any of it without patching."""

    settings: Settings
    clock: Clock
    database: Database
    provider: Provider
    test_provider: Provider
    limits: LimitStore
    # Without the in-process fallback: what counts with it fails closed.
    strict_limits: LimitStore
    prices: PriceList | None
    metrics: Metrics
    health: Health
    # Where a delivery runs while its caller waits.
    executor: Executor
    # How many callers may wait for Plivo at once: fewer than there are request threads, so that some are always free.
    waiting: Semaphore
    # Who may read a long or slow body now, by client, for the same reason: no client has all the places.
    uploads: Slots
    # Stores together the delivery reports that come at once; says of each whether it is new.
    reports_in: Gatherer[Any, bool]
    # Who takes a delivery report: where many come, they are stored, and applied afterwards.
    reporting: Crowd
    # Rung when there is work for a dispatcher; nobody need be listening.
    bell: Bell
    # Rung when a report was stored and not applied.
    reports: Bell
    # How much waits, as of a moment ago.
    pressure: Pressure
    # How the queue stands, as of a moment ago (:class:`smsapi.monitoring.figures.Figures`).
    figures: Remembered[Any]
    retry_policy: RetryPolicy
    random: Random
    # Calls off what waits of a client's key (client, key, who says so); what is sent lies above what keys are.
    cancel_all_of_key: Callable[["Deps", UUID, UUID, Mapping[str, Any]], None]
    # Told of each step that a crash may come between; does nothing but in the tests, which die there.
    checkpoint: Callable[[str], None]
