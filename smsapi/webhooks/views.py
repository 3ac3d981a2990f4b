"""The blueprint ``webhooks``: endpoints, what was tried with them, and the list of events to read instead."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import orjson
from flask import Blueprint
from flask.wrappers import Response
from sqlalchemy import Connection, select

from smsapi.auth.guard import caller
from smsapi.auth.schemas import EmptySchema
from smsapi.errors import EventsExpired
from smsapi.events.models import event_marks, events
from smsapi.ids import show_id
from smsapi.web.answers import Answer, answer, to_json
from smsapi.web.body import load_body, load_optional_body, load_query
from smsapi.web.context import deps, to_response
from smsapi.web.idempotency import is_claimed
from smsapi.web.once import answer_once, claim_of_request
from smsapi.web.operations import operation
from smsapi.web.pagination import Page, PageQuery, page_of
from smsapi.web.paths import id_in_path
from smsapi.webhooks import endpoints, schemas
from smsapi.webhooks.addresses import Reach
from smsapi.webhooks.models import Endpoint
from smsapi.webhooks.present import Told, present_attempt, present_endpoint, present_told
from smsapi.webhooks.relay import list_told

blueprint = Blueprint("webhooks", __name__)

_order = schemas.EndpointOrderSchema()
_patch = schemas.EndpointPatchSchema()
_recovery = schemas.RecoverySchema()
_reading = schemas.ReadingSchema()
_page_query = PageQuery()
_nothing = EmptySchema()
_SCOPE = "webhooks"


@blueprint.post("/v1/webhook-endpoints")
@operation(
    summary="Make a webhook endpoint",
    scope=_SCOPE,
    body=schemas.EndpointOrderSchema,
    answers={201: schemas.EndpointWithSecretSchema},
    problems=("too_many_endpoints",),
    idempotent=True,
)
def create_webhook_endpoint() -> Response:
    """Make an endpoint that is told of the client's events from now on. Its secret is shown this once."""
    order = load_body(_order, schemas.EndpointOrder)

    def act(connection: Connection) -> Answer:
        made = endpoints.create_endpoint(
            connection,
            deps().clock.now(),
            caller(),
            url=order.url,
            events=order.events,
            description=order.description,
            reach=_reach(),
        )
        return answer({**present_endpoint(made), "secret": made.secret}, 201)

    return answer_once(caller().owner, act, keep=_without_secret)


@blueprint.get("/v1/webhook-endpoints")
@operation(
    summary="List the webhook endpoints", scope=_SCOPE, query=PageQuery, answers={200: schemas.EndpointListSchema}
)
def list_webhook_endpoints() -> Response:
    """Return a page of the client's endpoints, newest first; to a test key, of those that test keys made."""
    page = load_query(_page_query, Page)
    with deps().database.read() as connection:
        found = endpoints.list_endpoints(connection, caller(), limit=page.limit, before=page.before)
    return to_response(answer(page_of(found, page.limit, present_endpoint, lambda endpoint: endpoint.id)))


@blueprint.get("/v1/webhook-endpoints/<endpoint_id>")
@operation(
    summary="Get a webhook endpoint", scope=_SCOPE, answers={200: schemas.EndpointSchema}, problems=("not_found",)
)
def get_webhook_endpoint(endpoint_id: str) -> Response:
    """Return the endpoint, without its secret."""
    return to_response(answer(present_endpoint(_find(endpoint_id))))


@blueprint.patch("/v1/webhook-endpoints/<endpoint_id>")
@operation(
    summary="Change a webhook endpoint",
    scope=_SCOPE,
    body=schemas.EndpointPatchSchema,
    answers={200: schemas.EndpointSchema},
    problems=("not_found",),
)
def update_webhook_endpoint(endpoint_id: str) -> Response:
    """Change what is given. What waits goes to the new URL; `enabled: true` lets a disabled endpoint go on."""
    changes, world = load_body(_patch, schemas.EndpointChanges), deps()
    with world.database.transaction() as connection:
        found = _endpoint(connection, endpoint_id, hold=True)
        changed = endpoints.update_endpoint(connection, world.clock.now(), found, changes.values, reach=_reach())
    return to_response(answer(present_endpoint(changed)))


@blueprint.delete("/v1/webhook-endpoints/<endpoint_id>")
@operation(summary="Delete a webhook endpoint", scope=_SCOPE, answers={204: None}, problems=("not_found",))
def delete_webhook_endpoint(endpoint_id: str) -> Response:
    """Tell it of nothing any more, not even of what waits."""
    world = deps()
    with world.database.transaction() as connection:
        endpoints.delete_endpoint(connection, world.clock.now(), _endpoint(connection, endpoint_id, hold=True))
    return Response(status=204)


@blueprint.post("/v1/webhook-endpoints/<endpoint_id>/rotate-secret")
@operation(
    summary="Replace an endpoint's secret",
    scope=_SCOPE,
    body=EmptySchema,
    body_optional=True,
    answers={200: schemas.EndpointWithSecretSchema},
    problems=("not_found",),
    idempotent=True,
)
def rotate_webhook_secret(endpoint_id: str) -> Response:
    """Make a new secret. For 24 hours deliveries are signed with it and with the one before."""
    load_optional_body(_nothing, dict)
    found = _find(endpoint_id)

    def act(connection: Connection) -> Answer:
        held = endpoints.get_endpoint(connection, caller(), found.id, hold=True)
        rotated = endpoints.rotate_secret(connection, deps().clock.now(), held)
        return answer({**present_endpoint(rotated), "secret": rotated.secret})

    return answer_once(caller().owner, act, keep=_without_secret)


@blueprint.get("/v1/webhook-endpoints/<endpoint_id>/attempts")
@operation(
    summary="List the attempts to tell an endpoint",
    scope=_SCOPE,
    query=PageQuery,
    answers={200: schemas.AttemptListSchema},
    problems=("not_found",),
)
def list_webhook_attempts(endpoint_id: str) -> Response:
    """Return a page of the attempts, newest first; they are kept as long as their events."""
    page = load_query(_page_query, Page)
    with deps().database.read() as connection:
        found = _endpoint(connection, endpoint_id)
        rows = endpoints.list_attempts(connection, found, limit=page.limit, before=page.before)
    return to_response(answer(page_of(rows, page.limit, present_attempt, lambda row: row.id)))


@blueprint.post("/v1/webhook-endpoints/<endpoint_id>/test")
@operation(
    summary="Send an endpoint a test event",
    scope=_SCOPE,
    body=EmptySchema,
    body_optional=True,
    answers={202: schemas.TestSentSchema},
    problems=("not_found",),
    idempotent=True,
)
def test_webhook_endpoint(endpoint_id: str) -> Response:
    """Tell this endpoint alone of a `webhook.test`, whatever its filters. `attempts` shows what came of it."""
    load_optional_body(_nothing, dict)
    found = _find(endpoint_id)

    def act(connection: Connection) -> Answer:
        sent = endpoints.send_test(connection, deps().clock.now(), found)
        return answer({"event_id": show_id("evt", sent)}, 202)

    return answer_once(caller().owner, act)


@blueprint.post("/v1/webhook-endpoints/<endpoint_id>/recover")
@operation(
    summary="Tell an endpoint what it missed",
    scope=_SCOPE,
    body=schemas.RecoverySchema,
    answers={202: schemas.RecoveredSchema},
    problems=("not_found",),
    idempotent=True,
)
def recover_webhook_endpoint(endpoint_id: str) -> Response:
    """Tell it of each event since then that was given up, or that happened while it was disabled or not there."""
    order = load_body(_recovery, schemas.Recovery)
    found = _find(endpoint_id)
    # Before what is answered once, whose transaction would be held for as long as it takes. Done twice it is the same
    # as once, but what is repeated is not even begun.
    done = None if _is_repeated() else endpoints.recover(deps(), caller(), found.id, order.since)

    def act(_connection: Connection) -> Answer:
        if done is None:
            # The first answer was forgotten just now.
            return answer({"recovered": 0, "complete": False}, 202)
        return answer({"recovered": done[0], "complete": done[1]}, 202)

    return answer_once(caller().owner, act)


def _is_repeated() -> bool:
    claim = claim_of_request(caller().owner)
    if claim is None:
        return False
    with deps().database.read() as connection:
        return is_claimed(connection, claim)


@blueprint.post("/v1/webhook-endpoints/<endpoint_id>/events/<event_id>/resend")
@operation(
    summary="Tell an endpoint of an event again",
    scope=_SCOPE,
    body=EmptySchema,
    body_optional=True,
    answers={202: schemas.TestSentSchema},
    problems=("not_found",),
    idempotent=True,
)
def resend_webhook_event(endpoint_id: str, event_id: str) -> Response:
    """Tell it once more, with the same `webhook-id`, delivered before or not; what waits is tried now."""
    load_optional_body(_nothing, dict)
    found = _find(endpoint_id)

    def act(connection: Connection) -> Answer:
        held = endpoints.get_endpoint(connection, caller(), found.id, hold=True)
        wanted = id_in_path("evt", event_id, what="event")
        endpoints.resend(connection, deps().clock.now(), held, wanted)
        return answer({"event_id": show_id("evt", wanted)}, 202)

    return answer_once(caller().owner, act)


@blueprint.get("/v1/events")
@operation(
    summary="Read what happened, in its order",
    scope=_SCOPE,
    query=schemas.ReadingSchema,
    answers={200: schemas.ToldEventListSchema},
    problems=("events_expired",),
)
def list_client_events() -> Response:
    """Return the client's events after the given one, oldest first: all that webhooks tell, and none is missed.

    Every event has its place for good once it is here. To a test key, test events only.
    """
    query = load_query(_reading, schemas.Reading)
    who = caller()
    with deps().database.read() as connection:
        after = _place(connection, query.after)
        found: Sequence[Told] = ()
        if after is not None:
            found = list_told(
                connection, client_id=who.client.id, test_only=not who.key.live, after=after, limit=query.limit
            )
    last = found[-1].id if found else query.after
    shown = None if last is None else show_id("evt", last)
    return to_response(answer({"data": [present_told(each) for each in found], "next_cursor": shown}))


def _place(connection: Connection, event_id: UUID | None) -> int | None:
    """Return the number of an event of the caller's, 0 for none, or None where it has no number yet."""
    if event_id is None:
        return 0
    who = caller()
    query = select(events.c.seq).where(events.c.id == event_id, events.c.client_id == who.client.id)
    row = connection.execute(query if who.key.live else query.where(events.c.test)).one_or_none()
    if row is None:
        marks = event_marks.c
        last = (marks.client_id == who.client.id, marks.test == (not who.key.live), marks.event_id == event_id)
        row = connection.execute(select(marks.seq).where(*last)).one_or_none()
    if row is None:
        raise EventsExpired("The event is kept no more, or there never was one with this id.")
    place: int | None = row.seq
    return place


def _reach() -> Reach:
    settings = deps().settings
    return Reach(settings.webhook_allow_networks, settings.webhook_ports)


def _endpoint(connection: Connection, shown: str, *, hold: bool = False) -> Endpoint:
    return endpoints.get_endpoint(connection, caller(), id_in_path("whe", shown, what="webhook endpoint"), hold=hold)


def _find(shown: str) -> Endpoint:
    """Return the caller's endpoint, before what is answered once."""
    # Not within it: what a test key does not find is not lost to the client's live keys.
    with deps().database.read() as connection:
        return _endpoint(connection, shown)


def _without_secret(made: Answer) -> Answer:
    # A replay shows the endpoint without it, as with keys: it would otherwise be kept in clear where nobody looks.
    document = orjson.loads(made.body)
    return replace(made, body=to_json({**document, "secret": None})) if "secret" in document else made
