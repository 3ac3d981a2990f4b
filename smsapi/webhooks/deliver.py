"""One attempt to tell an endpoint of an event, and what came of it, written down once."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import orjson
from sqlalchemy import Connection, insert, select, update

from smsapi import __version__
from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.events.models import events
from smsapi.events.store import record_event
from smsapi.ids import new_id, show_id
from smsapi.log import get_logger
from smsapi.plivo.answers import retry_after_seconds
from smsapi.webhooks.deliveries import HASTENED_AFTER_SECONDS, Claimed, hasten, release_next
from smsapi.webhooks.models import (
    DELIVERED,
    FAILED,
    SENDING,
    WAITING,
    Endpoint,
    to_endpoint,
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
)
from smsapi.webhooks.present import present_told, select_told, to_told
from smsapi.webhooks.schedule import LONGEST_RETRY_AFTER_SECONDS, wait_seconds
from smsapi.webhooks.signing import sign
from smsapi.webhooks.wire import TOTAL_SECONDS, Reply, post

log = get_logger()

# Of nothing but failure; then nobody is there any more.
GIVE_UP_AFTER: Final = timedelta(days=5)
# Of one delivery, whatever was not counted as a try; no shorter than the schedule.
LONGEST: Final = timedelta(hours=84)
_SLOW_MILLISECONDS: Final = 2000
_GONE: Final = 410
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": f"smsapi/{__version__}"}


def deliver(world: Deps, claimed: Claimed) -> None:
    """Tell the endpoint, and write down what came of it; no transaction is open meanwhile.

    Where so little is left of the lease that it could end before the answer comes, nothing is told: whoever takes it
    then tells it, and may have told what comes behind it by now.
    """
    with world.database.read() as connection:
        row = connection.execute(select_told().where(events.c.id == claimed.event_id)).one_or_none()
    if row is None:
        return  # it was too old to be kept
    now, endpoint = world.clock.now(), claimed.endpoint
    body = orjson.dumps(present_told(to_told(row)))
    signed = sign(secrets_in_force(endpoint, now), show_id("evt", claimed.event_id), now, body)
    world.checkpoint("webhook.before")
    if world.clock.now() + timedelta(seconds=TOTAL_SECONDS) >= claimed.until:
        log.warning(
            "webhook_held_up", endpoint_id=show_id("whe", endpoint.id), event_id=show_id("evt", claimed.event_id)
        )
        return
    networks = world.settings.webhook_allow_networks
    reply = post(endpoint.url, body, {**_HEADERS, **signed}, networks=networks, ports=world.settings.webhook_ports)
    world.checkpoint("webhook.answered")
    settle(world, claimed, reply, begun=now)
    world.checkpoint("webhook.settled")


def secrets_in_force(endpoint: Endpoint, now: datetime) -> list[str]:
    """Return the secrets to sign with, the newest first."""
    until = endpoint.previous_secret_until
    if endpoint.previous_secret is None or until is None or until <= now:
        return [endpoint.secret]
    return [endpoint.secret, endpoint.previous_secret]


def settle(world: Deps, claimed: Claimed, reply: Reply, *, begun: datetime) -> None:
    """Write down the attempt, and what it means for the delivery, for those behind it, and for the endpoint.

    Whoever lost the lease writes the attempt alone, and nothing where the event was forgotten meanwhile.
    """
    now, ok = world.clock.now(), reply.status is not None and reply.status // 100 == 2  # noqa: PLR2004 - RFC 9110
    with world.database.transaction() as connection:
        counted = partial(world.metrics.observe_webhook, "delivered" if ok else "refused", reply.milliseconds / 1000)
        after_commit(connection, counted)
        # First of all: whoever changes the endpoint holds it before its deliveries.
        moved = not ok and _has_moved(connection, claimed.endpoint)
        rows = webhook_deliveries.c
        held = select(rows.status, rows.epoch).where(rows.id == claimed.id).with_for_update()
        stands = connection.execute(held).one_or_none()
        if stands is None:
            return
        outcome = _delivered(claimed, now) if ok else _failed(world, claimed, reply, moved=moved)
        ours = (stands.status, stands.epoch) == (SENDING, claimed.epoch)
        if ours:
            values = {"attempts": claimed.attempts + 1, **outcome}
            connection.execute(update(webhook_deliveries).where(rows.id == claimed.id).values(values))
        _log_attempt(connection, claimed, reply, begun, ok=ok)
        if ours and outcome["status"] != WAITING:
            release_next(connection, now, claimed.endpoint.id, claimed.message_id)
    if _is_news(claimed.endpoint, reply, now, ok=ok):
        with world.database.transaction() as connection:
            _note_endpoint(connection, claimed.endpoint, reply, now, ok=ok)


def _has_moved(connection: Connection, endpoint: Endpoint) -> bool:
    """Say whether the endpoint has another URL by now; it keeps it until this transaction ends."""
    query = select(webhook_endpoints.c.url).where(webhook_endpoints.c.id == endpoint.id)
    url: str = connection.execute(query.with_for_update(read=True)).scalar_one()
    return url != endpoint.url


def _delivered(claimed: Claimed, now: datetime) -> dict[str, Any]:
    return {"status": DELIVERED, "tries": claimed.tries + 1, "due_at": None, "finished_at": now}


def _failed(world: Deps, claimed: Claimed, reply: Reply, *, moved: bool) -> dict[str, Any]:
    now, tries = world.clock.now(), claimed.tries + 1
    if moved:
        # What the old URL says of it is no word of the new one.
        return {"status": WAITING, "tries": 0, "due_at": now}
    asked = retry_after_seconds(reply.retry_after, now=now, cap_seconds=LONGEST_RETRY_AFTER_SECONDS)
    wait = None if reply.status == _GONE else wait_seconds(tries, asked, world.random)
    if wait is None or now - claimed.begun_at > LONGEST:
        return {"status": FAILED, "tries": tries, "due_at": None, "finished_at": now}
    return {"status": WAITING, "tries": tries, "due_at": now + timedelta(seconds=wait)}


def _log_attempt(connection: Connection, claimed: Claimed, reply: Reply, begun: datetime, *, ok: bool) -> None:
    refused = None if ok or reply.status is None else f"answered {reply.status}"
    row = {
        "id": new_id(),
        "delivery_id": claimed.id,
        "endpoint_id": claimed.endpoint.id,
        "event_id": claimed.event_id,
        "number": claimed.attempts + 1,
        "started_at": begun,
        "milliseconds": reply.milliseconds,
        "status": reply.status,
        "error": reply.error or refused,
    }
    connection.execute(insert(webhook_attempts).values(row))


def _is_news(endpoint: Endpoint, reply: Reply, now: datetime, *, ok: bool) -> bool:
    """Say whether the endpoint's row has to be looked at; mostly it has not, and nobody waits for it."""
    if (reply.milliseconds > _SLOW_MILLISECONDS) != endpoint.slow or (endpoint.failing_since is None) != ok:
        return True
    return not ok and (reply.status == _GONE or _is_over(endpoint.failing_since, now))


def _is_over(failing_since: datetime | None, now: datetime) -> bool:
    return failing_since is not None and now - failing_since >= GIVE_UP_AFTER


def _was_away(failing_since: datetime | None, now: datetime) -> bool:
    return failing_since is not None and (now - failing_since).total_seconds() >= HASTENED_AFTER_SECONDS


def _note_endpoint(connection: Connection, endpoint: Endpoint, reply: Reply, now: datetime, *, ok: bool) -> None:
    of_it = webhook_endpoints.c.id == endpoint.id
    row = connection.execute(select(webhook_endpoints).where(of_it).with_for_update(key_share=True)).one()
    stands = to_endpoint(row)
    if stands.url != endpoint.url:
        return  # it says nothing of where the endpoint is now
    since = None if ok else stands.failing_since or now
    changes: dict[str, Any] = {"slow": reply.milliseconds > _SLOW_MILLISECONDS, "failing_since": since}
    reason = "gone" if reply.status == _GONE else "failing" if _is_over(since, now) else None
    disables = not ok and stands.enabled and reason is not None
    if disables:
        changes |= {"enabled": False, "disabled_reason": reason, "updated_at": now}
    connection.execute(update(webhook_endpoints).where(of_it).values(changes))
    if ok and _was_away(stands.failing_since, now):
        hasten(connection, now, endpoint.id)
    if disables:
        shown = show_id("whe", endpoint.id)
        data = {"endpoint_id": shown, "url": stands.url, "reason": reason}
        record_event(
            connection, client_id=stands.client_id, kind="webhook.disabled", at=now, data=data, test=stands.test
        )
        after_commit(connection, partial(log.warning, "webhook_disabled", endpoint_id=shown, reason=reason))
