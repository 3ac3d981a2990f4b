"""The blueprint ``auth``: tokens, keys, clients, and what holds for the caller."""

from dataclasses import replace
from typing import Any

import orjson
from flask import Blueprint, after_this_request, request
from flask.wrappers import Response
from sqlalchemy import Connection

from smsapi.auth import schemas, service
from smsapi.auth.guard import caller, caller_of_key, check_logins_are_counted, fail_login
from smsapi.auth.models import SCOPES, ApiKey, Caller, Client
from smsapi.auth.quotas import POLICIES, limits_of
from smsapi.auth.secrets import PresentedKey, read_key, read_key_parts
from smsapi.auth.tokens import issue_token, read_token
from smsapi.clock import rfc3339
from smsapi.errors import (
    InvalidGrant,
    InvalidInput,
    InvalidScope,
    NotFound,
    ScopeMissing,
    Unauthenticated,
    UnsupportedGrant,
)
from smsapi.ids import show_id
from smsapi.settings.windows import read_windows
from smsapi.web.answers import Answer, answer, to_json
from smsapi.web.body import MAX_PUBLIC_BYTES, load, load_body, load_optional_body, load_query
from smsapi.web.context import deps, to_response
from smsapi.web.once import answer_once
from smsapi.web.operations import operation
from smsapi.web.pagination import Page, PageQuery, page_of
from smsapi.web.paths import id_in_path

blueprint = Blueprint("auth", __name__)

_FORM = "application/x-www-form-urlencoded"
_token_order = schemas.TokenOrderSchema()
_token_form = schemas.TokenFormSchema()
_revocation_order = schemas.RevocationOrderSchema()
_key_order = schemas.KeyOrderSchema()
_rotation_order = schemas.RotationOrderSchema()
_client_order = schemas.ClientOrderSchema()
_client_patch = schemas.ClientPatchSchema()
_revocation = schemas.RevocationQuery()
_page_query = PageQuery()


@blueprint.post("/v1/auth/token")
@operation(
    summary="Trade an API key for an access token",
    public="the request itself carries the key",
    body=schemas.TokenOrderSchema,
    form=schemas.TokenFormSchema,
    answers={200: schemas.TokenSchema},
    problems=(
        "invalid_request",
        "invalid_scope",
        "unsupported_grant_type",
        "unauthenticated",
        "too_many_failed_logins",
        "limiter_unavailable",
        "store_unavailable",
    ),
    # With no parameter that may be left out, openapi-python-client 0.29 writes a module that cannot be imported.
    headers={"X-Request-Id": "Names this request in logs and in problems: 1 to 128 visible ASCII characters."},
)
def create_token() -> Response:
    """Issue a short-lived token; with ``scope``, for fewer scopes than the key has."""
    check_logins_are_counted()
    presented, wanted = _presented_by_form() if request.mimetype == _FORM else _presented_by_json()
    holder = None if presented is None else caller_of_key(presented)
    if holder is None:
        fail_login("The API key is wrong, has expired, or was revoked.")
    scopes = _granted(holder, wanted)
    token, seconds = issue_token(holder, scopes, settings=deps().settings, now=deps().clock.now())
    shown = " ".join(scope for scope in SCOPES if scope in scopes)
    return to_response(
        answer({"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": shown}),
        {"Cache-Control": "no-store", "Pragma": "no-cache"},
    )


def _presented_by_json() -> tuple[PresentedKey | None, str | None]:
    order = load_body(_token_order, schemas.TokenOrder)
    return read_key(order.api_key), order.scope


def _presented_by_form() -> tuple[PresentedKey | None, str | None]:
    # Nobody has shown who he is yet: reading a large form would cost more than refusing it.
    request.max_content_length = MAX_PUBLIC_BYTES
    form = request.form
    # A parameter without a value counts as not sent (RFC 6749 section 3.2).
    if any(len(values) > 1 for _, values in form.lists()) or not form.get("grant_type"):
        raise InvalidGrant("grant_type must be given, and no parameter twice.")
    if form["grant_type"] != "client_credentials":
        raise UnsupportedGrant("grant_type must be client_credentials.")
    given = load(_token_form, form.to_dict(), dict)
    after_this_request(_challenge_basic)
    basic = request.authorization
    if basic is None or basic.type != "basic" or basic.username is None or basic.password is None:
        fail_login("Send the key's id and its secret by HTTP Basic.")
    return read_key_parts(basic.username, basic.password), given.get("scope")


def _challenge_basic(response: Response) -> Response:
    # RFC 6749 section 5.2: the challenge names the scheme that the client used.
    if "WWW-Authenticate" in response.headers:
        response.headers["WWW-Authenticate"] = 'Basic realm="smsapi"'
    return response


def _granted(holder: Caller, wanted: str | None) -> frozenset[str]:
    if wanted is None or not wanted.strip():
        return holder.scopes
    asked = frozenset(wanted.split())
    if lacking := sorted(asked - holder.scopes):
        known = [scope for scope in lacking if scope in SCOPES]
        raise InvalidScope(f"The key lacks: {', '.join(known)}." if known else "There is no such scope.")
    return asked


@blueprint.post("/v1/auth/revoke")
@operation(
    summary="Revoke an access token",
    body=schemas.RevocationOrderSchema,
    answers={200: schemas.EmptySchema},
)
def revoke_token() -> Response:
    """Make a token of the caller's own client stop working at once; 200 whatever the token (RFC 7009)."""
    order = load_body(_revocation_order, schemas.RevocationOrder)
    world = deps()
    try:
        token = read_token(order.token, world.clock.now())
        with world.database.transaction() as connection:
            # Only one's own client's tokens: otherwise whoever finds a token in a log could end it.
            key = service.get_key(connection, token.key_id, client_id=caller().client.id)
            service.check_may_end_token(caller(), key)
            service.revoke_token(
                connection, world.database, world.clock.now(), jti=token.jti, expires_at=token.expires_at
            )
    except (Unauthenticated, NotFound, ScopeMissing):
        pass
    return to_response(answer({}))


@blueprint.get("/v1/auth/whoami")
@operation(summary="Say who calls", answers={200: schemas.WhoamiSchema})
def get_whoami() -> Response:
    """Return the client, the key, and what the credential allows."""
    who = caller()
    return to_response(
        answer(
            {
                "client_id": show_id("cli", who.client.id),
                "client_name": who.client.name,
                "key_id": show_id("key", who.key.id),
                "mode": who.key.mode,
                "scopes": [scope for scope in SCOPES if scope in who.scopes],
                "limits": {policy: limits_of(who.client.limits, policy) for policy in POLICIES},
            }
        )
    )


@blueprint.get("/v1/limits")
@operation(summary="Show the caller's limits", answers={200: schemas.LimitListSchema})
def get_limits() -> Response:
    """Return every window of every limit that holds for the caller."""
    own = caller().client.limits
    rows = [
        {"policy": policy, "quota": item.amount, "window_seconds": item.get_expiry()}
        for policy in POLICIES
        for item in read_windows(limits_of(own, policy))
    ]
    return to_response(answer({"data": rows}))


@blueprint.post("/v1/api-keys")
@operation(
    summary="Make an API key",
    scope="keys",
    body=schemas.KeyOrderSchema,
    answers={201: schemas.NewKeySchema},
    idempotent=True,
)
def create_key() -> Response:
    """Make a key for the caller's own client; its secret is in this answer and nowhere else."""
    order = load_body(_key_order, schemas.KeyOrder)

    def act(connection: Connection) -> Answer:
        # Time moves on between a request and its repetition, so this too is answered once.
        now = deps().clock.now()
        if order.expires_at is not None and order.expires_at <= now:
            raise InvalidInput.at("/expires_at", "Must be in the future.")
        live = order.mode == "live"
        service.check_may_mint(caller(), live=live, scopes=order.scopes)
        key, shown = service.issue_key(
            connection,
            now,
            client_id=caller().client.id,
            name=order.name,
            live=live,
            scopes=order.scopes,
            expires_at=service.latest_expiry(caller(), order.expires_at),
        )
        return answer({**present_key(key), "key": shown}, 201)

    return answer_once(caller().owner, act, keep=_without_secret)


@blueprint.get("/v1/api-keys")
@operation(summary="List the client's API keys", scope="keys", query=PageQuery, answers={200: schemas.KeyListSchema})
def list_keys() -> Response:
    """Return a page of the keys, revoked and expired ones too, newest first."""
    page = load_query(_page_query, Page)
    with deps().database.read() as connection:
        keys = service.list_keys(connection, client_id=caller().client.id, limit=page.limit, before=page.before)
    return to_response(answer(page_of(keys, page.limit, present_key, lambda key: key.id)))


@blueprint.delete("/v1/api-keys/<key_id>")
@operation(
    summary="Revoke an API key",
    scope="keys",
    query=schemas.RevocationQuery,
    answers={204: None},
    problems=("not_found",),
)
def revoke_key(key_id: str) -> Response:
    """Make the key, and every token minted from it, stop working at once.

    What was accepted with it is sent all the same, also what is scheduled. With `cancel_scheduled=true` all messages
    and batches of the key that still wait, `scheduled` or `queued`, are canceled; that may be asked for later, too.
    """
    query = load_query(_revocation, schemas.Revocation)
    world, own = deps(), caller().client.id
    with world.database.transaction() as connection:
        key = service.get_key(connection, id_in_path("key", key_id, what="API key"), client_id=own)
        service.check_may_end(caller(), key)
        service.revoke_key(connection, world.clock.now(), key.id, client_id=own)
    if query.cancel_scheduled:
        by = {"by": "caller", "key_id": show_id("key", caller().key.id), "reason": "key_revoked"}
        world.cancel_all_of_key(world, own, key.id, by)
    return Response(status=204)


@blueprint.post("/v1/api-keys/<key_id>/rotate")
@operation(
    summary="Replace an API key",
    scope="keys",
    body=schemas.RotationOrderSchema,
    body_optional=True,
    answers={201: schemas.NewKeySchema},
    problems=("not_found",),
    idempotent=True,
)
def rotate_key(key_id: str) -> Response:
    """Make a key like this one; the old one goes on working for the overlap (a day, if not said otherwise)."""
    order = load_optional_body(_rotation_order, schemas.RotationOrder)
    own = caller().client.id

    def act(connection: Connection) -> Answer:
        old = service.get_key(connection, id_in_path("key", key_id, what="API key"), client_id=own)
        service.check_may_mint(caller(), live=old.live, scopes=old.scopes)
        key, shown = service.rotate_key(
            connection,
            deps().clock.now(),
            old.id,
            client_id=own,
            overlap_seconds=order.overlap_seconds,
            until=caller().ends_at,
        )
        return answer({**present_key(key), "key": shown}, 201)

    return answer_once(caller().owner, act, keep=_without_secret)


@blueprint.post("/v1/clients")
@operation(
    summary="Make a client",
    scope="admin",
    body=schemas.ClientOrderSchema,
    answers={201: schemas.ClientSchema},
    idempotent=True,
)
def create_client() -> Response:
    """Make a client, a calling service; it has no key yet."""
    # Not within what is answered once: a refusal of this key is not the answer for the client's other keys.
    service.check_may_change_clients(caller())
    order = load_body(_client_order, schemas.ClientChanges)

    def act(connection: Connection) -> Answer:
        made = service.create_client(connection, deps().clock.now(), **order.values)
        return answer(present_client(made), 201)

    return answer_once(caller().owner, act)


@blueprint.get("/v1/clients")
@operation(summary="List the clients", scope="admin", query=PageQuery, answers={200: schemas.ClientListSchema})
def list_clients() -> Response:
    """Return a page of all clients, newest first."""
    page = load_query(_page_query, Page)
    with deps().database.read() as connection:
        found = service.list_clients(connection, limit=page.limit, before=page.before)
    return to_response(answer(page_of(found, page.limit, present_client, lambda client: client.id)))


@blueprint.patch("/v1/clients/<client_id>")
@operation(
    summary="Change a client",
    scope="admin",
    body=schemas.ClientPatchSchema,
    answers={200: schemas.ClientSchema},
    problems=("not_found",),
)
def update_client(client_id: str) -> Response:
    """Change what is given; the client's next request sees it, on every process."""
    service.check_may_change_clients(caller())
    changes = load_body(_client_patch, schemas.ClientChanges)
    world = deps()
    with world.database.transaction() as connection:
        changed = service.update_client(
            connection, world.clock.now(), id_in_path("cli", client_id, what="client"), changes.values
        )
    return to_response(answer(present_client(changed)))


def present_key(key: ApiKey) -> dict[str, Any]:
    """Return the key as callers see it, without its secret."""
    return {
        "id": show_id("key", key.id),
        "client_id": show_id("cli", key.client_id),
        "name": key.name,
        "mode": key.mode,
        "scopes": list(key.scopes),
        "prefix": f"smsk_{key.mode}_{key.id.hex}",
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.ends_at is None else rfc3339(key.ends_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }


def present_client(client: Client) -> dict[str, Any]:
    """Return the client as callers see it."""
    return {
        "id": show_id("cli", client.id),
        "name": client.name,
        "default_sender": client.default_sender,
        "allowed_senders": None if client.allowed_senders is None else list(client.allowed_senders),
        "allowed_countries": None if client.allowed_countries is None else list(client.allowed_countries),
        "limits": client.limits,
        "weight": client.weight,
        "optout_keywords": list(client.optout_keywords),
        "retention_days": client.retention_days,
        "created_at": rfc3339(client.created_at),
        "updated_at": rfc3339(client.updated_at),
    }


def _without_secret(made: Answer) -> Answer:
    # The secret is stored nowhere, so a replay shows the key without it.
    document = orjson.loads(made.body)
    return replace(made, body=to_json({**document, "key": None})) if "key" in document else made
