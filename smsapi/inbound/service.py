"""Taking an inbound text: stored once, given to its client, and obeyed, all in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, false, or_, select, update

from smsapi.auth.models import Caller, clients, senders_of
from smsapi.clock import rfc3339
from smsapi.deps import Deps
from smsapi.errors import NotFound
from smsapi.events.store import record_event
from smsapi.ids import new_id, show_id
from smsapi.inbound.models import NOT_ERASED, Inbound, inbound_messages, to_inbound
from smsapi.inbound.reading import Received
from smsapi.messages.models import messages
from smsapi.optouts.ledger import hold_waiting, let_calls_end, opt_in, opt_out, said_by_recipient
from smsapi.optouts.models import Scope, Source
from smsapi.optouts.words import Reading, read_text
from smsapi.sms.phone import E164


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which inbound messages are wanted; None for any."""

    sender: str | None = None
    to: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an inbound text: ``stored`` or ``repeated``, and what it says."""

    result: str
    reading: Reading
    inbound: Inbound | None = None


def take_inbound(world: Deps, received: Received) -> Taken:
    """Store the text, tell its client, and obey what it says; one that was taken before changes nothing.

    When this returns, an opt-out is committed, and no call to Plivo for that number is out that began before it
    (waited for at most two seconds); none begins after it.

    Raises:
        StoreUnavailable: nothing was taken; Plivo tells again where we do not answer 200.

    """
    with world.database.transaction() as connection:
        inbound = _store(connection, world, received)
        if inbound is None:
            return Taken("repeated", _reading_of(received, ()))
        reading = _reading_of(received, _words_of_client(connection, inbound.client_id))
        _tell(connection, inbound)
        _obey(connection, inbound, reading, source="keyword" if received.intent is None else "intent")
    if reading.wish == "optout" and E164.fullmatch(inbound.from_number):
        let_calls_end(world, inbound.from_number)
    return Taken("stored", reading, inbound)


def _reading_of(received: Received, further_words: Sequence[str]) -> Reading:
    """Return what the text says; where Plivo says what it took it for, that holds, but against no STOP."""
    read = read_text(received.text, further_words)
    if read.wish == "optout":
        return read  # whatever Plivo took it for: nobody who says STOP is texted again
    if received.intent is None or received.intent == read.wish:
        return read
    return Reading(received.intent, read.word)


def _words_of_client(connection: Connection, client_id: UUID | None) -> Sequence[str]:
    query = select(clients.c.optout_keywords).where(clients.c.id == client_id)
    words: Sequence[str] | None = connection.execute(query).scalar_one_or_none()
    return words or ()


def _store(connection: Connection, world: Deps, received: Received) -> Inbound | None:
    message_id, client_id = _owner_of(connection, received, world.settings.plivo_sender_id)
    now = world.clock.now()
    inbound = Inbound(
        id=new_id(),
        provider_uuid=received.provider_uuid,
        client_id=client_id,
        message_id=message_id,
        from_number=received.sender,
        to_number=received.to,
        text=received.text,
        type=received.kind,
        intent=received.intent,
        segments=received.segments,
        media=list(received.media),
        powerpack_uuid=received.powerpack_uuid,
        extra=dict(received.extra),
        # To the millisecond, as it is shown: what is filtered by a shown time is then exact.
        received_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
    )
    # Whoever brings the same UUID at the same moment waits here for the one that came first.
    statement = world.database.insert(inbound_messages).on_conflict_do_nothing().returning(inbound_messages.c.id)
    return inbound if connection.execute(statement, asdict(inbound)).first() is not None else None


def _owner_of(connection: Connection, received: Received, of_service: str | None) -> tuple[UUID | None, UUID | None]:
    """Return the message that the text answers, and the client that it is for; None where there is none.

    The client is one that may send from the number that was texted: of several, the one that last did so to this
    person, and otherwise the only one that names the number. What somebody else sent from it makes it nobody else's.
    """
    found = connection.execute(select(clients.c.id, clients.c.default_sender, clients.c.allowed_senders)).all()
    number = received.to
    may = [row.id for row in found if number in senders_of(row.default_sender, row.allowed_senders, of_service)]
    named = [row.id for row in found if number == row.default_sender or number in (row.allowed_senders or ())]
    message_id, client_id = _last_outbound(connection, received, may or None)
    if client_id is not None:
        return message_id, client_id
    return None, named[0] if len(named) == 1 else None


def _last_outbound(
    connection: Connection, received: Received, of: Sequence[UUID] | None
) -> tuple[UUID | None, UUID | None]:
    """Return the last live message of these clients (None: of any) between the two numbers, and its client."""
    rows = messages.c
    between = (rows.to_number == received.sender, rows.sender == received.to, ~rows.test, rows.attempts > 0)
    query = select(rows.id, rows.client_id).where(*between).order_by(rows.id.desc()).limit(1)
    if of is not None:
        query = query.where(rows.client_id.in_(of))
    found = connection.execute(query).first()
    return (None, None) if found is None else (found.id, found.client_id)


def _tell(connection: Connection, inbound: Inbound) -> None:
    if inbound.client_id is None:
        return
    record_event(
        connection,
        client_id=inbound.client_id,
        kind="message.received",
        at=inbound.received_at,
        data=present_inbound(inbound),
    )


def _obey(connection: Connection, inbound: Inbound, reading: Reading, *, source: Source) -> None:
    evidence = {
        "inbound_id": show_id("inb", inbound.id),
        "text": inbound.text,
        "keyword": reading.word,
        "intent": inbound.intent,
        "sender": inbound.to_number,
    }
    at = inbound.received_at
    if E164.fullmatch(inbound.from_number) is None:
        # It cannot be texted, so that there is nothing to stop. What it asks for is for a person to see.
        if reading.wish is not None or reading.review:
            _ask_person(connection, inbound)
    elif reading.wish == "optout":
        client_id = inbound.client_id if reading.is_of_client else None
        scope = Scope(number=inbound.from_number, client_id=client_id, sender=inbound.to_number)
        hold_waiting(connection, inbound.from_number)
        opt_out(connection, scope, source=source, at=at, evidence=evidence)
    elif reading.wish == "optin":
        scopes = said_by_recipient(connection, number=inbound.from_number, sender=inbound.to_number)
        opt_in(connection, scopes, source=source, at=at, evidence=evidence)
    elif reading.review:
        _ask_person(connection, inbound)


def _ask_person(connection: Connection, inbound: Inbound) -> None:
    """Leave a trace that a person should read the text: the event ``optout.review`` of its client."""
    if inbound.client_id is None:
        return
    told = {"number": inbound.from_number, "from": inbound.to_number, "text": inbound.text}
    told["inbound_id"] = show_id("inb", inbound.id)
    kind, at = "optout.review", inbound.received_at
    record_event(connection, client_id=inbound.client_id, kind=kind, at=at, data=told)


def present_inbound(inbound: Inbound) -> dict[str, Any]:
    """Return the inbound message as callers see it."""
    return {
        "id": show_id("inb", inbound.id),
        "client_id": None if inbound.client_id is None else show_id("cli", inbound.client_id),
        "message_id": None if inbound.message_id is None else show_id("msg", inbound.message_id),
        "from": inbound.from_number,
        "to": inbound.to_number,
        "text": inbound.text,
        "type": inbound.type,
        "intent": inbound.intent,
        "segments": inbound.segments,
        "media": inbound.media,
        "provider": {
            "message_uuid": inbound.provider_uuid,
            "powerpack_uuid": inbound.powerpack_uuid,
            "extra": inbound.extra,
        },
        "received_at": rfc3339(inbound.received_at),
    }


def get_inbound(connection: Connection, caller: Caller, inbound_id: UUID) -> Inbound:
    """Return the inbound message where the caller may read it, or raise :class:`NotFound`."""
    wanted = select(inbound_messages).where(inbound_messages.c.id == inbound_id, _may_read(caller))
    row = connection.execute(wanted).first()
    if row is None:
        raise NotFound("There is no such inbound message.")
    return to_inbound(row)


def list_inbound(
    connection: Connection, caller: Caller, wanted: Filter, *, limit: int, before: UUID | None
) -> Sequence[Inbound]:
    """Return up to ``limit + 1`` inbound messages that the caller may read, newest first, older than ``before``."""
    rows = inbound_messages.c
    query = select(inbound_messages).where(_may_read(caller)).order_by(rows.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(rows.id < before)
    if wanted.sender is not None:
        query = query.where(rows.from_number == wanted.sender)
    if wanted.to is not None:
        query = query.where(rows.to_number == wanted.to)
    if wanted.created_after is not None:
        query = query.where(rows.received_at > wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(rows.received_at < wanted.created_before)
    return [to_inbound(row) for row in connection.execute(query)]


def _may_read(caller: Caller) -> ColumnElement[bool]:
    """Return the condition of what the caller may read: its client's, an admin also nobody's, a test key nothing."""
    if not caller.key.live:
        return false()
    own = inbound_messages.c.client_id == caller.client.id
    return or_(own, inbound_messages.c.client_id.is_(None)) if "admin" in caller.scopes else own


def forget_number(connection: Connection, number: str, *, limit: int) -> int:
    """Erase what the number texted to us, and the number itself; return from how many inbound messages.

    With as many as ``limit`` there may be more.
    """
    rows = inbound_messages.c
    some = select(rows.id).where(rows.from_number == number).order_by(rows.id).limit(limit).with_for_update()
    ids = connection.execute(some).scalars().all()
    if not ids:
        return 0
    return connection.execute(update(inbound_messages).where(rows.id.in_(ids)).values(_ERASED)).rowcount


def forget_old(connection: Connection, client_id: UUID | None, until: datetime, *, limit: int) -> int:
    """Erase text and number of up to ``limit`` inbound messages of a client (None: of nobody's) that came until then.

    Return how many they were. What another transaction holds is left for the next time.
    """
    rows = inbound_messages.c
    old = (rows.client_id == client_id, rows.received_at <= until, NOT_ERASED)
    held = select(rows.id).where(*old).order_by(rows.received_at).limit(limit).with_for_update(skip_locked=True)
    ids = connection.execute(held).scalars().all()
    if not ids:
        return 0
    return connection.execute(update(inbound_messages).where(rows.id.in_(ids)).values(_ERASED)).rowcount


_ERASED: Final[Mapping[str, Any]] = {"from_number": "", "text": "", "media": [], "extra": {}}
