"""Endpoints and what their owner may do with them, within the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, func, insert, select, update

from smsapi.auth.models import Caller
from smsapi.auth.service import get_client
from smsapi.deps import Deps
from smsapi.errors import InvalidInput, NotFound, TooManyEndpoints
from smsapi.events.models import events
from smsapi.events.store import record_event
from smsapi.ids import new_id, show_id
from smsapi.webhooks.addresses import Reach, check_url
from smsapi.webhooks.deliveries import hasten, tell_again
from smsapi.webhooks.models import (
    DELIVERED,
    Endpoint,
    to_endpoint,
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
)
from smsapi.webhooks.present import select_told, to_told
from smsapi.webhooks.relay import TEST_EVENT, list_told, wants
from smsapi.webhooks.signing import make_secret

MAX_ENDPOINTS: Final = 50
# How long the secret before the last one goes on signing.
OVERLAP: Final = timedelta(hours=24)
RECOVER_AT_ONCE: Final = 5000
_BATCH: Final = 500
_ROWS = webhook_endpoints.c


def create_endpoint(
    connection: Connection,
    now: datetime,
    caller: Caller,
    *,
    url: str,
    events: Sequence[str],
    reach: Reach,
    description: str | None = None,
) -> Endpoint:
    """Make an endpoint, which is told of what happens from now on; one of a test key, of test events only.

    Raises:
        InvalidInput: the URL is none that a webhook may go to.
        TooManyEndpoints: the client has fifty.

    """
    _check_url(url, reach)
    # Held, so that of several at once each counts the ones before it.
    get_client(connection, caller.client.id, lock=True)
    own = (_ROWS.client_id == caller.client.id, _ROWS.deleted_at.is_(None))
    if connection.execute(select(func.count()).where(*own)).scalar_one() >= MAX_ENDPOINTS:
        raise TooManyEndpoints(f"The client has {MAX_ENDPOINTS} endpoints; delete one.")
    made = Endpoint(
        id=new_id(),
        client_id=caller.client.id,
        test=not caller.key.live,
        url=url,
        events=list(events),
        description=description,
        secret=make_secret(),
        previous_secret=None,
        previous_secret_until=None,
        enabled=True,
        disabled_reason=None,
        failing_since=None,
        slow=False,
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
    connection.execute(insert(webhook_endpoints).values(asdict(made)))
    return made


def _check_url(url: str, reach: Reach) -> None:
    try:
        check_url(url, reach.networks, reach.ports)
    except ValueError as rule:
        raise InvalidInput.at("/url", str(rule)) from None


def _of(caller: Caller) -> Select[Any]:
    query = select(webhook_endpoints).where(_ROWS.client_id == caller.client.id, _ROWS.deleted_at.is_(None))
    return query if caller.key.live else query.where(_ROWS.test)


def get_endpoint(connection: Connection, caller: Caller, endpoint_id: UUID, *, hold: bool = False) -> Endpoint:
    """Return an endpoint of the caller's client, held until this transaction ends where asked for.

    Raises:
        NotFound: there is none, or it is another's, or it is not a test key's and the caller's key is.

    """
    query = _of(caller).where(_ROWS.id == endpoint_id)
    if hold:
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("There is no such webhook endpoint.")
    return to_endpoint(row)


def list_endpoints(connection: Connection, caller: Caller, *, limit: int, before: UUID | None) -> Sequence[Endpoint]:
    """Return up to ``limit + 1`` endpoints that the caller may see, newest first, older than ``before``."""
    query = _of(caller).order_by(_ROWS.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(_ROWS.id < before)
    return [to_endpoint(row) for row in connection.execute(query)]


def update_endpoint(
    connection: Connection,
    now: datetime,
    endpoint: Endpoint,
    changes: Mapping[str, Any],
    *,
    reach: Reach,
) -> Endpoint:
    """Change what is given. A new URL, or ``enabled``, counts as never having failed: what waits is due there at once.

    Raises:
        InvalidInput: the URL is none that a webhook may go to.

    """
    if "url" in changes:
        _check_url(changes["url"], reach)
    values = {**changes, "updated_at": now}
    if "enabled" in changes:
        values["disabled_reason"] = None if changes["enabled"] else "disabled"
    is_back = "url" in changes or changes.get("enabled", False)
    if is_back:
        values |= {"failing_since": None, "slow": False}
    changed = _set(connection, endpoint, values)
    if is_back:
        hasten(connection, now, endpoint.id)
    return changed


def _set(connection: Connection, endpoint: Endpoint, values: Mapping[str, Any]) -> Endpoint:
    connection.execute(update(webhook_endpoints).where(_ROWS.id == endpoint.id).values(values))
    return replace(endpoint, **values)


def delete_endpoint(connection: Connection, now: datetime, endpoint: Endpoint) -> None:
    """Tell it of nothing any more; its secrets are forgotten, its log goes with the events."""
    _set(connection, endpoint, {"deleted_at": now, "enabled": False, "secret": "", "previous_secret": None})


def rotate_secret(connection: Connection, now: datetime, endpoint: Endpoint) -> Endpoint:
    """Give it a new secret; for a day the one before signs too."""
    values = {
        "secret": make_secret(),
        "previous_secret": endpoint.secret,
        "previous_secret_until": now + OVERLAP,
        "updated_at": now,
    }
    return _set(connection, endpoint, values)


def send_test(connection: Connection, now: datetime, endpoint: Endpoint) -> UUID:
    """Record a test event that this endpoint alone is told of, whatever its filters; return the event's id."""
    data = {"endpoint_id": show_id("whe", endpoint.id)}
    return record_event(connection, client_id=endpoint.client_id, kind=TEST_EVENT, at=now, data=data, test=True)


def list_attempts(connection: Connection, endpoint: Endpoint, *, limit: int, before: UUID | None) -> list[Any]:
    """Return up to ``limit + 1`` attempts to tell this endpoint, newest first, older than ``before``."""
    rows, delivery = webhook_attempts.c, webhook_deliveries.c
    joined = webhook_attempts.join(events, rows.event_id == events.c.id).join(
        webhook_deliveries, rows.delivery_id == delivery.id
    )
    query = select(*rows, events.c.type, delivery.status.label("delivery_status")).select_from(joined)
    query = query.where(rows.endpoint_id == endpoint.id).order_by(rows.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(rows.id < before)
    return list(connection.execute(query))


def resend(connection: Connection, now: datetime, endpoint: Endpoint, event_id: UUID) -> None:
    """Tell the endpoint of this event again, with the same id; one that waits for a later try is tried now.

    Raises:
        NotFound: there is no such event for this endpoint, or it is kept no more.

    """
    query = select_told().where(events.c.id == event_id, events.c.client_id == endpoint.client_id)
    # Kept until the transaction ends: housekeeping may be about to forget it.
    kept = query.where(events.c.seq.is_not(None)).with_for_update(read=True, key_share=True, of=events)
    row = connection.execute(kept).one_or_none()
    event = None if row is None else to_told(row)
    if event is None or (endpoint.test and not event.test):
        raise NotFound("There is no such event.")
    tell_again(connection, now, endpoint.id, [event])


def recover(world: Deps, caller: Caller, endpoint_id: UUID, since: datetime) -> tuple[int, bool]:
    """Tell the endpoint of every event since then that it wants and was not told of, in their order.

    Return how many they are, and whether they are all; about ``RECOVER_AT_ONCE`` are taken at once. It is done in
    batches, each a transaction of its own, so that nobody waits for the whole.

    Raises:
        NotFound: the caller has no such endpoint.

    """
    found, last = 0, 0
    while found < RECOVER_AT_ONCE:
        with world.database.transaction() as connection:
            endpoint = get_endpoint(connection, caller, endpoint_id, hold=True)
            bounds = {"since": since, "untold_to": endpoint}
            batch = list_told(
                connection, client_id=endpoint.client_id, test_only=endpoint.test, after=last, limit=_BATCH, **bounds
            )
            wanted = [event for event in batch if wants(endpoint, event)]
            found += tell_again(connection, world.clock.now(), endpoint.id, wanted, DELIVERED)
        if len(batch) < _BATCH:
            return found, True
        last = batch[-1].seq or 0
    return found, False
