"""Opting out and in again, and asking who is: queries and decisions within the caller's transaction.

Every change is a line of the trail and an event to each client that it concerns. A message is looked at here twice:
as it is taken, and again in the transaction that begins an attempt; :func:`hold_waiting` sees to it that no attempt
begins between the two sides of an opt-out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, exists, insert, or_, select, update

from smsapi.clock import Clock, rfc3339
from smsapi.db import insert_into
from smsapi.deps import Deps
from smsapi.errors import RecipientOptedOut
from smsapi.events.store import record_event
from smsapi.ids import new_id, show_id
from smsapi.messages.models import Message, messages
from smsapi.messages.statuses import SENDING, WAITING
from smsapi.messages.underway import let_begun_end
from smsapi.optouts.evidence import inbound_texts, shown_to
from smsapi.optouts.models import (
    WITH_REASON,
    WITH_WORDS,
    OptOut,
    Proof,
    Scope,
    Source,
    blocks,
    opt_out_log,
    opt_outs,
    scope_of,
    to_opt_out,
)
from smsapi.optouts.words import plain_words

_INSERT_LINE = insert(opt_out_log)
_KEY = ("number", "test", "holds_for")
_IMPORT_BATCH = 500
# What of a line's evidence somebody said or wrote, and what stands there once it is forgotten.
_WORDS: Final[Mapping[str, Any]] = {"text": "", "reason": None}
_HISTORY_PART = 2_000
_CALL_LOOKS = 100
_CALL_LOOK_SECONDS = 0.02

_STANDING = (
    select(opt_outs.c.at)
    .where(blocks(**{name: bindparam(name) for name in ("number", "client_id", "sender", "test")}))
    .order_by(opt_outs.c.at)
    .limit(1)
)


def opted_out_at(
    connection: Connection, *, number: str, client_id: UUID, sender: str | None, test: bool
) -> datetime | None:
    """Return since when this client may not text the number from the sender, or None where it may."""
    given = {"number": number, "client_id": client_id, "sender": sender, "test": test}
    at: datetime | None = connection.execute(_STANDING, given).scalar_one_or_none()
    return at


def refusal_of(
    connection: Connection, *, number: str, client_id: UUID, sender: str | None, test: bool
) -> RecipientOptedOut | None:
    """Return the refusal that a message from this client and sender to the number meets, or None."""
    at = opted_out_at(connection, number=number, client_id=client_id, sender=sender, test=test)
    return None if at is None else RecipientOptedOut(said_of(at), opted_out_at=rfc3339(at))


def refusal_of_message(connection: Connection, message: Message) -> RecipientOptedOut | None:
    """Return the refusal that this message meets, or None where it meets none."""
    return refusal_of(
        connection,
        number=message.to_number,
        client_id=message.client_id,
        sender=message.sender,
        test=message.test,
    )


def said_of(at: datetime) -> str:
    """Return the sentence that a caller reads of an opt-out."""
    return f"The recipient opted out on {rfc3339(at)}."


def opted_out_among(connection: Connection, several: Sequence[Message]) -> Mapping[UUID, datetime]:
    """Return those of the messages that may not be sent, by id, with since when; one query for all of them."""
    if not several:
        return {}
    numbers = {message.to_number for message in several}
    found = [to_opt_out(row) for row in connection.execute(_BY_NUMBERS, {"numbers": sorted(numbers)})]
    stopped = {}
    for message in several:
        since = [entry.at for entry in found if _stops(entry.scope, message)]
        if since:
            stopped[message.id] = min(since)
    return stopped


_BY_NUMBERS = select(opt_outs).where(opt_outs.c.number.in_(bindparam("numbers", expanding=True)))


def _stops(scope: Scope, message: Message) -> bool:
    return (
        (scope.number, scope.test) == (message.to_number, message.test)
        and scope.client_id in {None, message.client_id}
        and scope.sender in {None, message.sender}
    )


def opt_out(
    connection: Connection,
    scope: Scope,
    *,
    source: Source,
    at: datetime,
    evidence: Mapping[str, Any],
    reason: str | None = None,
) -> None:
    """Enter an opt-out; one that stands already keeps its date.

    Either way it is a line of the trail; a new one is an ``optout.created`` to each client that it concerns.
    """
    row = _row(scope, source, reason, at)
    # Not DO NOTHING, which does not hold what is there: whoever takes it away at this moment would leave nobody opted
    # out, and this one told that the number is.
    same = {"holds_for": opt_outs.c.holds_for}
    entered = insert_into(connection, opt_outs).on_conflict_do_update(index_elements=_KEY, set_=same)
    is_new = connection.execute(entered.returning(opt_outs.c.id), row).scalar_one() == row["id"]
    connection.execute(_INSERT_LINE, _line(scope, "created" if is_new else "repeated", source, at, evidence))
    if is_new:
        _tell(connection, scope, "optout.created", source, at, reason=reason)


def opt_in(
    connection: Connection, scopes: Sequence[Scope], *, source: Source, at: datetime, evidence: Mapping[str, Any]
) -> None:
    """Take these entries away; each that stood is a line of the trail and ``optout.removed``."""
    for scope in sorted(scopes, key=_place_of):
        same = (opt_outs.c.number == scope.number, opt_outs.c.test == scope.test, opt_outs.c.holds_for == scope.key)
        if connection.execute(delete(opt_outs).where(*same).returning(opt_outs.c.id)).first() is not None:
            connection.execute(_INSERT_LINE, _line(scope, "removed", source, at, evidence))
            _tell(connection, scope, "optout.removed", source, at)


def opt_out_by_provider(connection: Connection, clock: Clock, several: Sequence[Message]) -> None:
    """Enter that Plivo refused these messages with code 200: each recipient told the sender STOP (plivo-facts 2.7)."""
    scopes = [(_scope_of_refusal(message), message) for message in several]
    for scope, message in sorted(scopes, key=lambda each: _place_of(each[0])):
        evidence = {"message_id": show_id("msg", message.id), "provider_code": "200"}
        opt_out(connection, scope, source="provider", at=clock.now(), evidence=evidence)


def _scope_of_refusal(message: Message) -> Scope:
    client_id = message.client_id if message.test else None
    return Scope(number=message.to_number, client_id=client_id, sender=message.sender, test=message.test)


def _place_of(scope: Scope) -> tuple[str, str]:
    """Return where an entry comes in the order in which those who change several change them (:mod:`smsapi.db`)."""
    return (scope.number, scope.key)


def _row(scope: Scope, source: str, reason: str | None, at: datetime) -> dict[str, Any]:
    own = {**_columns_of(scope), "holds_for": scope.key}
    return {"id": new_id(), **own, "source": source, "reason": reason, "at": at}


def _line(scope: Scope, action: str, source: str, at: datetime, evidence: Mapping[str, Any]) -> dict[str, Any]:
    said = {"action": action, "source": source, "at": at, "evidence": dict(evidence)}
    return {"id": new_id(), **_columns_of(scope), **said}


def _columns_of(scope: Scope) -> dict[str, Any]:
    return {"number": scope.number, "test": scope.test, "client_id": scope.client_id, "sender": scope.sender}


def _tell(
    connection: Connection, scope: Scope, kind: str, source: str, at: datetime, *, reason: str | None = None
) -> None:
    told = {
        "number": scope.number,
        "scope": scope.name,
        "from": scope.sender,
        "source": source,
        "reason": reason,
        "at": rfc3339(at),
    }
    for client_id in _concerned(connection, scope):
        record_event(connection, client_id=client_id, kind=kind, at=at, data=told, test=scope.test)


def _concerned(connection: Connection, scope: Scope) -> Sequence[UUID]:
    """Return whom an entry is told: its client, or all who texted the number from its sender."""
    if scope.client_id is not None:
        return [scope.client_id]
    rows = messages.c
    query = select(rows.client_id).where(rows.to_number == scope.number, rows.sender == scope.sender, ~rows.test)
    return list(connection.execute(query.distinct().order_by(rows.client_id)).scalars())


def hold_waiting(connection: Connection, number: str) -> None:
    """Hold what waits to be sent to the number until this transaction ends, before the opt-out is entered in it.

    An attempt that is being begun at this moment is waited for, and one that begins afterwards sees the opt-out. Before
    it is entered, since a report that opts a number out holds its message first, too (:mod:`smsapi.db`).
    """
    rows = messages.c
    for ids in _texts_to(connection, number, WAITING):
        connection.execute(select(rows.id).where(rows.id.in_(ids)).order_by(rows.id).with_for_update()).all()


def let_calls_end(world: Deps, number: str) -> None:
    """Wait until calls to Plivo that had begun before an opt-out was committed are over, two seconds at most."""
    with world.database.transaction() as connection:
        # What was accepted while the opt-out was being committed was not there to be held before, and may be about to
        # begin without having seen it.
        hold_waiting(connection, number)
    with world.database.read() as connection:
        # Whatever begins from now on has seen the opt-out, so that these are all.
        calling = [each for ids in _texts_to(connection, number, {SENDING}) for each in ids]
    rows = messages.c
    for _ in range(_CALL_LOOKS):
        if not calling:
            return
        world.clock.sleep(_CALL_LOOK_SECONDS)
        with world.database.read() as connection:
            still = select(rows.id).where(rows.id.in_(calling), rows.status == SENDING, ~rows.test)
            calling = list(connection.execute(still).scalars())


def _texts_to(connection: Connection, number: str, statuses: Collection[str]) -> Iterator[Sequence[UUID]]:
    """Yield the ids of the messages to the number that stand so, in their order.

    Of a number with a long history a part at a time, none of which takes long.
    """
    rows = messages.c
    after: UUID | None = None
    while True:
        query = select(rows.id, rows.status, rows.test).where(rows.to_number == number)
        if after is not None:
            query = query.where(rows.id > after)
        found = connection.execute(query.order_by(rows.id).limit(_HISTORY_PART)).all()
        wanted = [row.id for row in found if row.status in statuses and not (row.test and row.status == SENDING)]
        if wanted:
            yield wanted
        if len(found) < _HISTORY_PART:
            return
        after = found[-1].id


def let_calls_of_client_end(world: Deps, client_id: UUID) -> None:
    """Wait until all calls for the client that had begun before its opt-outs were committed are over, as above."""
    own = messages.c.client_id == client_id
    let_begun_end(world.database, world.clock, own, lease_seconds=world.settings.lease_seconds)


@dataclass(frozen=True, slots=True)
class Mine:
    """Whose entries are looked for: a client's own, and those of all clients for the senders that it uses."""

    client_id: UUID
    senders: tuple[str, ...]
    test: bool


def entries_of(connection: Connection, mine: Mine, number: str) -> Sequence[OptOut]:
    """Return the entries for the number that hold for the client, oldest first."""
    own = _visible(opt_outs, mine)
    query = select(opt_outs).where(opt_outs.c.number == number, own).order_by(opt_outs.c.at, opt_outs.c.id)
    return [to_opt_out(row) for row in connection.execute(query)]


def get_entry(connection: Connection, scope: Scope) -> OptOut:
    """Return the entry of just this scope, which stands."""
    row = opt_outs.c
    same = (row.number == scope.number, row.test == scope.test, row.holds_for == scope.key)
    return to_opt_out(connection.execute(select(opt_outs).where(*same)).one())


def list_opt_outs(connection: Connection, mine: Mine, *, limit: int, before: UUID | None) -> Sequence[OptOut]:
    """Return up to ``limit + 1`` entries that hold for the client, newest first, older than ``before``.

    Of those that hold for all clients of a sender, the ones whose number it texted, or was texted by: the others are
    customers of somebody else's.
    """
    query = select(opt_outs).where(_visible(opt_outs, mine), _is_known(mine))
    query = query.order_by(opt_outs.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(opt_outs.c.id < before)
    return [to_opt_out(row) for row in connection.execute(query)]


def trail_of(connection: Connection, mine: Mine, number: str) -> Sequence[Proof]:
    """Return all that was ever entered of the number and concerns the client, oldest first.

    What somebody else's recipient, key or message proves is told without the proof: only by which keyword.
    """
    query = select(opt_out_log).where(opt_out_log.c.number == number, _visible(opt_out_log, mine))
    rows = connection.execute(query.order_by(opt_out_log.c.id)).all()
    shown = shown_to(connection, mine.client_id, [row.evidence for row in rows])
    return [
        Proof(id=row.id, scope=scope_of(row), action=row.action, source=row.source, at=row.at, evidence=evidence)
        for row, evidence in zip(rows, shown, strict=True)
    ]


def _is_known(mine: Mine) -> ColumnElement[bool]:
    row, sent, came = opt_outs.c, messages.c, inbound_texts.c
    texted = exists().where(sent.client_id == mine.client_id, sent.to_number == row.number)
    was_texted = exists().where(came.from_number == row.number, came.client_id == mine.client_id)
    return or_(row.client_id == mine.client_id, texted, was_texted)


def _visible(table: Table, mine: Mine) -> ColumnElement[bool]:
    row = table.c
    of_all = and_(row.client_id.is_(None), row.sender.in_(mine.senders))
    return and_(row.test == mine.test, or_(row.client_id == mine.client_id, of_all))


def said_by_recipient(connection: Connection, *, number: str, sender: str) -> Sequence[Scope]:
    """Return the entries that the number's own texts to this sender made, and those that Plivo reported of it."""
    row = opt_outs.c
    own_words = row.source.in_(("keyword", "intent", "provider"))
    query = select(opt_outs).where(row.number == number, row.sender == sender, ~row.test, own_words)
    return [scope_of(each) for each in connection.execute(query)]


def import_opt_outs(
    connection: Connection, orders: Sequence[tuple[Scope, str | None]], *, at: datetime, evidence: Mapping[str, Any]
) -> int:
    """Enter many opt-outs at once and return how many are new; each new one is a line of the trail, and no event."""
    added = 0
    # In one order, or two who bring the same numbers wait for each other.
    ordered = sorted(orders, key=lambda order: _place_of(order[0]))
    for start in range(0, len(ordered), _IMPORT_BATCH):
        rows = [_row(scope, "import", reason, at) for scope, reason in ordered[start : start + _IMPORT_BATCH]]
        statement = insert_into(connection, opt_outs).values(rows).on_conflict_do_nothing().returning(opt_outs)
        new = [to_opt_out(row) for row in connection.execute(statement)]
        if new:
            lines = [_line(each.scope, "created", "import", at, {**evidence, "reason": each.reason}) for each in new]
            connection.execute(_INSERT_LINE, lines)
        added += len(new)
    return added


def forget_words(connection: Connection, number: str, after: UUID | None, *, limit: int) -> tuple[int, UUID | None]:
    """Take out what the number's texts said, and what callers wrote of why it opted out, or in.

    Return from how many entries and lines of the trail, and behind which line the next call goes on (None: it was the
    last). They themselves stay: without them the person would be texted again.
    """
    own = (opt_outs.c.number == number, opt_outs.c.reason.is_not(None))
    changed = connection.execute(update(opt_outs).where(*own).values(reason=None)).rowcount
    rows = opt_out_log.c
    query = select(rows.id, rows.evidence).where(rows.number == number).order_by(rows.id).limit(limit)
    found = connection.execute(query if after is None else query.where(rows.id > after)).all()
    for row in found:
        kept = _without_words(row.evidence)
        if kept != row.evidence:
            connection.execute(update(opt_out_log).where(rows.id == row.id).values(evidence=kept))
            changed += 1
    return changed, found[-1].id if len(found) == limit else None


def forget_old_words(connection: Connection, client_id: UUID | None, until: datetime, *, limit: int) -> int:
    """Take the same out of what was entered until then for a client (None: for all that use a sender); a part of it.

    Return from how many; with ``limit`` or more there may be more to do. Who is opted out, from when on and how that
    came to be, stays.
    """
    entries, rows = opt_outs.c, opt_out_log.c
    old = select(entries.id).where(WITH_REASON, entries.client_id == client_id, entries.at <= until)
    ids = connection.execute(old.order_by(entries.at).limit(limit).with_for_update(skip_locked=True)).scalars().all()
    if ids:
        connection.execute(update(opt_outs).where(entries.id.in_(ids)).values(reason=None))
    lines = select(rows.id, rows.evidence).where(WITH_WORDS, rows.client_id == client_id, rows.at <= until)
    found = connection.execute(lines.order_by(rows.at).limit(limit).with_for_update(skip_locked=True)).all()
    for row in found:
        values = {"evidence": _proof_alone(row.evidence), "forgotten_at": until}
        connection.execute(update(opt_out_log).where(rows.id == row.id).values(values))
    return max(len(ids), len(found))


def _proof_alone(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence without what was said; a text that is nothing but the word that was obeyed is the proof."""
    kept = _without_words(evidence)
    said, word = evidence.get("text"), evidence.get("keyword")
    if isinstance(said, str) and word and plain_words(said) == word:
        kept["text"] = said
    return kept


def _without_words(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _WORDS.get(name, value) for name, value in evidence.items()}
