"""A request with an Idempotency-Key, run once: what was made and what was answered are one transaction."""

import hashlib
from collections.abc import Callable

from flask import request
from flask.wrappers import Response
from sqlalchemy import Connection

from smsapi.errors import ScopeMissing, SmsapiError, Unavailable
from smsapi.web.answers import Answer
from smsapi.web.body import read_json
from smsapi.web.context import deps, to_response
from smsapi.web.handlers import problem
from smsapi.web.idempotency import (
    Abandoned,
    Claim,
    Owner,
    begin,
    claim_of,
    digest_of,
    entry_of,
    finish,
    read_key,
    seal,
)

REPLAYED = {"Idempotent-Replayed": "true"}
_LOCK_SECONDS = 30.0
# Of the 128 that the column takes, what tells a test key's needs a few.
_ROUTE_LENGTH = 120


def claim_of_request(owner: Owner) -> Claim | None:
    """Return this request's use of its Idempotency-Key, or None where it has none.

    Raises:
        IdempotencyKeyInvalid: the header is there and is no key.

    """
    header = request.headers.get("Idempotency-Key")
    if header is None:
        return None
    body = read_json() if request.get_data(cache=True) else None
    return seal(claim_of(owner, _route(), read_key(header)), digest_of(body), deps().settings)


def _route() -> str:
    route = f"{request.method} {request.path}"
    # A path holds whatever the caller wrote: more than the column takes, or a U+0000, which PostgreSQL never takes.
    if len(route) <= _ROUTE_LENGTH and route.isprintable():
        return route
    return f"{request.method} sha256:{hashlib.sha256(request.path.encode('utf-8', 'surrogatepass')).hexdigest()}"


def answer_once(
    owner: Owner, act: Callable[[Connection], Answer], *, keep: Callable[[Answer], Answer] = lambda answer: answer
) -> Response:
    """Answer with what ``act`` gives in one transaction; with an Idempotency-Key, once, and again the same.

    ``keep`` says what of the answer may be stored. An error that is the caller's is stored and given again too, but
    for what only this API key may not do.
    """
    world = deps()
    claim, now = claim_of_request(owner), world.clock.now()
    with world.database.transaction() as connection:
        if claim is None:
            return to_response(act(connection))
        entry = entry_of(claim, now=now, lock_seconds=_LOCK_SECONDS, ttl_seconds=world.settings.idempotency_ttl_seconds)
        found = begin(connection, world.database, claim, entry, now=now)
        if isinstance(found, Answer):
            return to_response(found, REPLAYED)
        if isinstance(found, Abandoned):
            raise TypeError("an answer that is stored with its cause cannot be abandoned")
        answer = _attempt(connection, act)
        finish(connection, claim, keep(answer))
    return to_response(answer)


def _attempt(connection: Connection, act: Callable[[Connection], Answer]) -> Answer:
    try:
        with connection.begin_nested():
            return act(connection)
    except (Unavailable, ScopeMissing):
        # What this API key may not do is no answer to the client's other keys.
        raise
    except SmsapiError as error:
        return problem(error)
