"""The composition root: settings to the outside world, and the outside world to a Flask app. Nothing is global."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from random import SystemRandom
from threading import BoundedSemaphore
from typing import Any

from flask import Flask
from sqlalchemy import text
from werkzeug.middleware.proxy_fix import ProxyFix

from smsapi.auth import guard, quotas, tokens
from smsapi.auth.views import blueprint as auth_blueprint
from smsapi.batches.of_key import cancel_all_of_key
from smsapi.batches.store import unmade_by_lane
from smsapi.batches.uploads import blueprint as batches_blueprint
from smsapi.bell import Bell
from smsapi.clock import Clock
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.errors import SettingsInvalid
from smsapi.gathering import Crowd, Gatherer, Slots
from smsapi.health import OK, Finding, Health
from smsapi.inbound.views import blueprint as inbound_blueprint
from smsapi.limits.fallback import FallbackStore, ShareStore
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.memory import MemoryStore
from smsapi.limits.redis import RedisStore
from smsapi.limits.store import LimitStore
from smsapi.messages.flows import measure_due
from smsapi.messages.views import blueprint as messages_blueprint
from smsapi.metrics import Metrics
from smsapi.monitoring.figures import Figures, look_at_queue
from smsapi.monitoring.gauges import gauges_of
from smsapi.optouts.views import blueprint as optouts_blueprint
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.retry import RetryPolicy
from smsapi.pressure import Load, Pressure
from smsapi.privacy.views import blueprint as privacy_blueprint
from smsapi.receipts.service import store_reports
from smsapi.receipts.views import blueprint as receipts_blueprint
from smsapi.remembered import Remembered
from smsapi.send.testmode import TestProvider
from smsapi.send.views import blueprint as send_blueprint
from smsapi.settings import Settings
from smsapi.sms.prices import InvalidPriceList, PriceList
from smsapi.timekeeping import clock_of
from smsapi.web import handlers
from smsapi.web.limiter import OneStepLimiter
from smsapi.web.operations import operation_of
from smsapi.web.service_routes import blueprint as service_blueprint
from smsapi.webhooks.views import blueprint as webhooks_blueprint

MAX_BODY_BYTES = 1024 * 1024
# Of the delivery reports that come at once to one process. More are done sooner together.
_APPLYING = 2
_STORED_TOGETHER = 100
_BLUEPRINTS = (
    auth_blueprint,
    batches_blueprint,
    send_blueprint,
    messages_blueprint,
    inbound_blueprint,
    optouts_blueprint,
    privacy_blueprint,
    receipts_blueprint,
    service_blueprint,
    webhooks_blueprint,
)


def create_app(settings: Settings, **replacements: Any) -> Flask:
    """Return the service as a Flask app; nothing is connected and no thread runs until it is used.

    ``replacements`` are fields of :class:`Deps` (``clock``, ``provider``, ``database``, …) to use in place of those
    that the settings would give. The outside world is at ``app.extensions["smsapi"]``.

    Raises:
        SettingsInvalid: names what is missing to serve.

    """
    world = build_deps(settings, **replacements)
    app = Flask("smsapi", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["smsapi"] = world
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies)  # type: ignore[method-assign]
    tokens.install(app, settings)
    # In this order: the request's id, then who calls, then what that one may still spend, then whether it may do this.
    handlers.install(app)
    app.before_request(guard.require_credential)
    limits, later = quotas.declared_limits(), quotas.counted_by_view
    OneStepLimiter(world.limits, limits=limits, once=quotas.once_token, later=later).init_app(app)
    app.before_request(guard.require_scope)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    _check_every_route_is_described(app)
    return app


def build_deps(settings: Settings, **replacements: Any) -> Deps:
    """Return the outside world that the settings describe, with these fields replaced.

    Raises:
        SettingsInvalid: names what is missing or unusable, all of it at once.

    """
    _require(settings, has_provider="provider" in replacements)
    database = replacements.get("database", Database(settings.database_url, pool_size=settings.database_pool_size))
    clock: Clock = replacements.get("clock", clock_of(database))
    limits, strict = _limit_stores(settings, clock)
    fields: dict[str, Any] = {
        "settings": settings,
        "clock": clock,
        "database": database,
        "test_provider": TestProvider(),
        "limits": limits,
        "strict_limits": strict,
        "prices": _prices(settings),
        "metrics": Metrics(),
        "health": Health(),
        "executor": ThreadPoolExecutor(settings.threads, thread_name_prefix="smsapi-inline"),
        "waiting": BoundedSemaphore(max(1, settings.threads * 3 // 4)),
        "uploads": _upload_slots(settings),
        "reports_in": Gatherer(partial(store_reports, database, clock), at_most=_STORED_TOGETHER),
        "reporting": Crowd(at_most=_APPLYING),
        "bell": Bell(),
        "reports": Bell(),
        "retry_policy": RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds),
        "random": SystemRandom(),
        "cancel_all_of_key": lambda world, client_id, key_id, by: cancel_all_of_key(world, client_id, key_id, by=by),
        "checkpoint": lambda _name: None,
    }
    fields["pressure"] = Pressure(lambda: _due(database, clock, settings))
    fields["figures"] = Remembered(partial(look_at_queue, database, clock))
    if "provider" not in replacements:
        fields["provider"] = _plivo(settings, clock)
    world = Deps(**{**fields, **replacements})
    _watch(world)
    return world


def _watch(world: Deps) -> None:
    """Have the probes and the metrics look at this world."""
    world.health.register("database", lambda: _database_answers(world.database))
    if world.settings.redis_url is not None:
        world.health.register("redis", lambda: _limits_answer(world.strict_limits))
    # What is down then is the database.
    unseen = Finding("degraded", "the database does not say how the queue stands")
    world.health.register("queue", lambda: _queue_moves(world.figures.get()), otherwise=unseen)
    world.metrics.watch(
        limits_degraded=lambda: isinstance(world.limits, FallbackStore) and world.limits.degraded,
        of_store=lambda: gauges_of(world.figures.get()),
    )


def _queue_moves(figures: Figures) -> Finding:
    # Not down: whoever turns away from this process because nobody sends would turn away what it could take.
    return OK if figures.trouble is None else Finding("degraded", figures.trouble)


def _upload_slots(settings: Settings) -> Slots:
    in_all = max(min(2, settings.threads // 2), settings.threads // 4, 1)
    return Slots(in_all=in_all, of_each=max(1, in_all // 2))


def _require(settings: Settings, *, has_provider: bool) -> None:
    needed = {"SMSAPI_JWT_SECRET": settings.jwt_secret}
    if not has_provider:
        needed |= {"PLIVO_AUTH_ID": settings.plivo_auth_id, "PLIVO_AUTH_TOKEN": settings.plivo_auth_token}
    if missing := [f"{name} is missing" for name, value in needed.items() if value is None]:
        raise SettingsInvalid("\n".join(missing))


def _limit_stores(settings: Settings, clock: Clock) -> tuple[LimitStore, LimitStore]:
    local = MemoryStore(clock)
    if settings.redis_url is None:
        shared_out = ShareStore(local, shares=settings.workers)
        return shared_out, shared_out
    shared = RedisStore(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)
    return FallbackStore(shared, local, shares=settings.workers, clock=clock), shared


def _prices(settings: Settings) -> PriceList | None:
    if settings.prices_file is None:
        return None
    try:
        return PriceList.from_file(settings.prices_file)
    except (OSError, InvalidPriceList) as error:
        raise SettingsInvalid(f"SMSAPI_PRICES_FILE cannot be used: {error}") from None


def _plivo(settings: Settings, clock: Clock) -> PlivoProvider:
    return PlivoProvider(
        auth_id=settings.plivo_auth_id or "",
        auth_token=settings.plivo_auth_token or "",
        base_url=settings.plivo_url,
        connect_timeout_seconds=settings.plivo_connect_timeout_seconds,
        read_timeout_seconds=settings.plivo_read_timeout_seconds,
        total_timeout_seconds=settings.plivo_total_timeout_seconds,
        # A dispatcher has three threads more than it is told to: for codes, chores and unknown outcomes.
        pool_size=settings.threads + settings.dispatch_threads + 3,
        clock=clock,
    )


def _due(database: Database, clock: Clock, settings: Settings) -> Mapping[int, Load]:
    now = clock.now()
    with database.read() as connection:
        loads = measure_due(connection, now, at_most=max(1, settings.queue_max_depth))
        unmade = unmade_by_lane(connection, now)
    # A row that is no message yet waits as one does; for how long says the first of its batch that is one.
    waits = {lane: loads.get(lane, Load(0, now)) for lane in {*loads, *unmade}}
    return {lane: replace(load, waiting=load.waiting + unmade.get(lane, 0)) for lane, load in waits.items()}


def _database_answers(database: Database) -> bool:
    with database.read() as connection:
        return connection.execute(text("SELECT 1")).scalar() == 1


def _limits_answer(store: LimitStore) -> bool:
    return store.peek([Charge("ready", Window(1, 1), "ready")]).allowed


def _check_every_route_is_described(app: Flask) -> None:
    silent = [rule.rule for rule in app.url_map.iter_rules() if operation_of(app.view_functions[rule.endpoint]) is None]
    if silent:
        raise RuntimeError(f"routes without an operation would be open to anybody: {', '.join(sorted(silent))}")
