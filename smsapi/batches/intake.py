"""Taking a batch: its rows are staged as they arrive, and accepted as a whole in the last transaction, or not at all.

Until then nobody sends any of it. Each piece says that the upload is alive; one that is not heard of any more is swept
away, rows and all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import IntegrityError

from smsapi.auth.models import Caller
from smsapi.batches import staging
from smsapi.batches.checking import Checker, Terms, agree
from smsapi.batches.limiting import Spending
from smsapi.batches.making import MOST_AT_ONCE, make_messages
from smsapi.batches.models import CHECKED, QUEUED, RECEIVING, REJECTED, SCHEDULED, Batch, batches, to_batch
from smsapi.batches.orders import BatchOrder
from smsapi.batches.pieces import PIECE, Pieces
from smsapi.batches.present import present_batch
from smsapi.batches.reading import Rows
from smsapi.batches.store import add_batch, change_batch, counts_of, start_counts
from smsapi.batches.template import no_column
from smsapi.deps import Deps
from smsapi.errors import (
    BatchRejected,
    BodyTooLarge,
    IdempotencyInProgress,
    InvalidInput,
    QueueFull,
    Unavailable,
)
from smsapi.ids import new_id, show_id
from smsapi.log import get_logger
from smsapi.messages.lanes import MARKETING, TEST
from smsapi.send.accept import is_full
from smsapi.send.order import bounds_of
from smsapi.web.answers import Answer, answer
from smsapi.web.idempotency import Claim, begin, entry_of, finish, idempotency_keys, seal
from smsapi.web.problems import render

log = get_logger()

# After so long without a sign of life an upload with the same key may take over; after the longer time it is forgotten.
TWIN_SECONDS: Final = 60.0
ABANDONED: Final = timedelta(minutes=10)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_RETRY_SECONDS: Final = 5
_RETRY_FULL_SECONDS: Final = 10


class Source(Protocol):
    """Where the rows of a batch come from."""

    def watch(self, listener: Callable[[], None]) -> None:
        """Call the listener as often as something comes in."""
        ...

    def rows(self) -> Rows:
        """Return the rows; asked once."""
        ...

    def exhaust(self) -> None:
        """Read what is left, for the digest."""
        ...

    def digest(self) -> bytes:
        """Return the digest of the whole request; once it is read to its end."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a batch. ``claim`` is its use of an Idempotency-Key; its digest is known when all is read."""

    caller: Caller
    order: BatchOrder
    claim: Claim | None
    request_id: str
    spending: Spending


class _Known(Exception):
    """The key has its answer: this transaction is undone, and so is what was staged."""

    def __init__(self, given: Answer) -> None:
        super().__init__()
        self.given = given


def take_batch(world: Deps, asked: Asked, source: Source) -> tuple[Answer, bool]:
    """Take a batch and return the answer, and whether that is a replay.

    Raises:
        InvalidInput, SenderNotAllowed, TextTooLong, TooManySegments: the batch as a whole, or its file, is at fault.
        BodyTooLarge: there are more rows than SMSAPI_BATCH_MAX_ROWS, or more bytes than are read.
        MalformedRequest: the body ended before its time.
        IdempotencyKeyReused: the key came with another body or query before.
        IdempotencyInProgress: an upload with the key is under way, or has taken this one over.
        RateLimited: a limit of the client or the key has no room for its texts, or too many rows of the client wait.
        QueueFull, StoreUnavailable: nothing was taken.

    Whatever is raised, nothing of the batch stays behind, here or after ``forget_abandoned``.
    """
    if _is_answered(world, asked.claim):
        source.exhaust()
        return _replay(world, asked, source)
    now = world.clock.now()
    client, settings = asked.caller.client, world.settings
    terms = agree(asked.order, client, settings, world.prices, now=now)
    batch = _new_batch(asked, terms, None if world.prices is None else world.prices.currency, now)
    if batch.send_at is None and not batch.dry_run and is_full(world, batch.lane):
        raise QueueFull("Too much waits to be sent; try again later.", retry_after_seconds=_RETRY_FULL_SECONDS)
    spending = asked.spending
    spending.require_room()
    _open(world, batch)
    world.checkpoint("upload.opened")
    pieces = Pieces(world, batch, spending)
    try:
        given = _take(world, asked, source, terms, pieces)
    except _Known as known:
        _discard(world, pieces, spending)
        return known.given, True
    except Exception:
        _discard(world, pieces, spending)
        raise
    world.bell.ring()
    return given, False


def _take(world: Deps, asked: Asked, source: Source, terms: Terms, pieces: Pieces) -> Answer:
    source.watch(pieces.be_heard)
    client, now = asked.caller.client, pieces.batch.created_at
    checker = Checker(terms, asked.order, client, world.settings, world.prices, now=now)
    rows = source.rows()
    _require_columns(terms, rows)
    _read(world, rows, checker, pieces)
    world.checkpoint("upload.read")
    given = _end(world, asked, source, pieces)
    world.checkpoint("upload.accepted")
    return given


def _is_answered(world: Deps, claim: Claim | None) -> bool:
    if claim is None:
        return False
    rows = idempotency_keys.c
    same = (rows.client_id == claim.client_id, rows.route == claim.route, rows.key == claim.key)
    with world.database.read() as connection:
        expires_at = connection.execute(select(rows.expires_at).where(*same)).scalar_one_or_none()
    return expires_at is not None and expires_at > world.clock.now()


def _replay(world: Deps, asked: Asked, source: Source) -> tuple[Answer, bool]:
    try:
        with world.database.transaction() as connection:
            _begin(world, connection, asked, source)
            # Its time ran out while the body was read: the next try is a new one.
            raise IdempotencyInProgress("Send it again: the answer has just expired.", retry_after_seconds=1)
    except _Known as known:
        return known.given, True


def _begin(world: Deps, connection: Connection, asked: Asked, source: Source) -> Claim | None:
    """Take the key, which nobody else has then before this transaction ends; raise :class:`_Known` if it is taken."""
    if asked.claim is None:
        return None
    claim = seal(asked.claim, source.digest(), world.settings)
    now, ttl = world.clock.now(), world.settings.idempotency_ttl_seconds
    entry = entry_of(claim, now=now, lock_seconds=0, ttl_seconds=ttl)
    found = begin(connection, world.database, claim, entry, now=now)
    if isinstance(found, Answer):
        raise _Known(found)
    if found != "fresh":
        raise TypeError("an answer that is stored with its cause cannot be abandoned")
    return claim


def _new_batch(asked: Asked, terms: Terms, currency: str | None, now: datetime) -> Batch:
    message, caller = asked.order.message, asked.caller
    return Batch(
        id=new_id(),
        client_id=caller.client.id,
        key_id=caller.key.id,
        test=not caller.key.live,
        status=RECEIVING,
        sender=terms.sender,
        template=message.text,
        text=terms.text,
        category=message.category,
        lane=MARKETING if caller.key.live else TEST,
        on_unknown=message.on_unknown,
        metadata=message.metadata,
        dlt=message.dlt,
        bounds=bounds_of(message),
        expires_at=None,
        send_at=message.send_at,
        all_or_nothing=asked.order.all_or_nothing,
        dry_run=asked.order.dry_run,
        accepted=0,
        rejected=0,
        duplicates=0,
        segments=0,
        made=0,
        made_through=0,
        price_micros=None,
        price_currency=currency,
        idempotency_key=None if asked.claim is None else asked.claim.key,
        heard_at=now,
        due_at=None,
        mark_at=None,
        mark_left=0,
        created_at=now,
        accepted_at=None,
        started_at=None,
        canceled_at=None,
        finished_at=None,
    )


def _open(world: Deps, batch: Batch) -> None:
    """Store the batch that is being received; one with the same key that is not heard of any more makes room."""
    busy = IdempotencyInProgress(
        "An upload with this Idempotency-Key is under way.", retry_after_seconds=_RETRY_SECONDS
    )
    try:
        with world.database.transaction() as connection:
            before = _under_way(connection, batch)
            if before is not None:
                if before.heard_at > world.clock.now() - timedelta(seconds=TWIN_SECONDS):
                    raise busy
                _give_up(connection, before.id)
            add_batch(connection, batch)
    except IntegrityError:
        raise busy from None
    if before is not None:
        _sweep(world, before.id)


def _under_way(connection: Connection, batch: Batch) -> Batch | None:
    if batch.idempotency_key is None:
        return None
    row = batches.c
    same = (row.client_id == batch.client_id, row.test == batch.test, row.idempotency_key == batch.idempotency_key)
    query = select(batches).where(row.status == RECEIVING, *same).with_for_update()
    found = connection.execute(query).one_or_none()
    return None if found is None else to_batch(found)


def _read(world: Deps, rows: Rows, checker: Checker, pieces: Pieces) -> None:
    most, found = world.settings.batch_max_rows, 0
    for place, row in enumerate(rows, start=1):
        # Of a file with nothing in it but empty lines there is an end as well.
        found += row is not None
        if found > most or place > 2 * most + PIECE:
            raise BodyTooLarge(f"A batch has at most {most} rows.")
        if row is not None:
            pieces.add(checker.check(row))
    if not found:
        raise InvalidInput.at("", "There is no row in it.")


def _require_columns(terms: Terms, rows: Rows) -> None:
    """Refuse a text with a variable that no row of a file can have, before any of them is read."""
    if rows.columns is None:
        return
    if missing := [name for name in terms.template.names if name not in rows.columns]:
        raise InvalidInput.at("/text", no_column(missing[0], rows.columns))


def _end(world: Deps, asked: Asked, source: Source, pieces: Pieces) -> Answer:
    """Accept what was read, or refuse it, in the transaction of its last piece, its key and its answer."""
    if asked.order.dry_run or pieces.batch.all_or_nothing:
        # What is not to be sent must not be staged with the last piece, so that has to be known before.
        pieces.flush()
    pieces.admit()
    with world.database.transaction() as connection:
        claim = _begin(world, connection, asked, source)
        pieces.stage(connection)
        if pieces.is_refused and not asked.order.dry_run:
            given = _refuse(connection, pieces.batch, asked.request_id)
        elif asked.order.dry_run:
            given = _report(world, connection, pieces.batch)
        else:
            given = _accept(world, connection, pieces.batch, expires_in=asked.order.message.expires_in)
        if claim is not None:
            finish(connection, claim, given)
        world.checkpoint("upload.accepting")
        if asked.order.dry_run or not pieces.is_refused:
            # Last of all: what is spent before would have to be given back where anything else fails.
            pieces.spend_texts()
    pieces.settle()
    return given


def _refuse(connection: Connection, batch: Batch, request_id: str) -> Answer:
    refused = change_batch(connection, batch, status=REJECTED)
    detail = f"{refused.rejected} of {refused.total} rows cannot be sent, so nothing of the batch is."
    return render(BatchRejected(detail), request_id, batch_id=show_id("bat", batch.id))


def _report(world: Deps, connection: Connection, batch: Batch) -> Answer:
    checked = change_batch(connection, batch, status=CHECKED)
    return _shown(world, connection, checked, 200)


def _accept(world: Deps, connection: Connection, batch: Batch, *, expires_in: int | None) -> Answer:
    now = world.clock.now()
    lasts = None if expires_in is None else timedelta(seconds=expires_in)
    accepted = change_batch(
        connection,
        batch,
        status=QUEUED if batch.send_at is None else SCHEDULED,
        accepted_at=now,
        due_at=now,
        expires_at=None if lasts is None else (batch.send_at or now) + lasts,
    )
    start_counts(connection, accepted)
    made = make_messages(world, connection, accepted, limit=MOST_AT_ONCE)
    return _shown(world, connection, made, 202)


def _shown(world: Deps, connection: Connection, batch: Batch, status: int) -> Answer:
    shown = present_batch(batch, counts_of(connection, batch), now=world.clock.now())
    return answer(shown, status, {"Location": f"/v1/batches/{shown['id']}"})


def _give_up(connection: Connection, batch_id: UUID) -> bool:
    """Take its key from an upload and leave it to be swept; return whether there was one."""
    own = (batches.c.id == batch_id, batches.c.status == RECEIVING)
    gone = update(batches).where(*own).values(idempotency_key=None, heard_at=_LONG_AGO).returning(batches.c.id)
    return connection.execute(gone).first() is not None


def _sweep(world: Deps, batch_id: UUID, *, dropped: Callable[[Sequence[tuple[int, str]]], None] | None = None) -> None:
    """Delete an upload that was given up: its row last, so that a crash leaves nothing that is not found again.

    ``dropped`` is told its rows, with their numbers.
    """
    staging.drop_rows(world.database, batch_id, dropped=dropped)
    staging.drop_rejects(world.database, batch_id)
    with world.database.transaction() as connection:
        connection.execute(delete(batches).where(batches.c.id == batch_id, batches.c.status == RECEIVING))


def _discard(world: Deps, pieces: Pieces, spending: Spending) -> None:
    """Take away what was staged of an upload that failed, and what it spent; it is swept later where that fails too.

    Where it was accepted all the same, or is in other hands, nothing of it is touched.
    """
    batch_id = pieces.batch.id
    try:
        with world.database.transaction() as connection:
            given_up = _give_up(connection, batch_id)
        if given_up:
            pieces.give_back()
            _sweep(world, batch_id, dropped=spending.give_back)
    except Unavailable:
        log.warning("upload_not_discarded")


def forget_abandoned(world: Deps, stopping: Callable[[], bool]) -> int:
    """Take away the uploads that were not heard of for ten minutes, with their rows; return how many they were.

    Their senders or processes died. One that is alive after all is told so with its next piece.
    """
    forgotten = 0
    silent = (batches.c.status == RECEIVING, batches.c.heard_at < world.clock.now() - ABANDONED)
    with world.database.read() as connection:
        found = list(connection.execute(select(batches.c.id).where(*silent)).scalars())
    for batch_id in found:
        if stopping():
            break
        with world.database.transaction() as connection:
            # It may have been heard of since, and then it is none of ours.
            still = connection.execute(select(batches.c.id).where(batches.c.id == batch_id, *silent).with_for_update())
            given_up = still.first() is not None and _give_up(connection, batch_id)
        if given_up:
            _sweep(world, batch_id)
            forgotten += 1
    return forgotten
