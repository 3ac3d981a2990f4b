"""A batch while it is received: what is checked of it is staged a piece at a time, and counted."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, update

from smsapi.batches import staging
from smsapi.batches.checking import Good
from smsapi.batches.limiting import Spending
from smsapi.batches.models import RECEIVING, Batch, batches
from smsapi.batches.store import Reject, count_waiting
from smsapi.deps import Deps
from smsapi.errors import IdempotencyInProgress, RateLimited, RecipientOptedOut, Unavailable
from smsapi.optouts.ledger import said_of

PIECE: Final = 5_000
# Well within the time after which an upload that is not heard of may be taken over.
_HEARD_EVERY: Final = timedelta(seconds=5)
_RETRY_SECONDS: Final = 5
_RETRY_WAITING_SECONDS: Final = 60


class Pieces:
    """What has come of one batch. ``batch`` has the counters of all that was staged. Not for several threads at once.

    Every method that writes raises StoreUnavailable where the store is lost, and, where the upload was given up for
    lost meanwhile, IdempotencyInProgress: another one with its key may be under way; or Unavailable, where it has none.
    """

    def __init__(self, world: Deps, batch: Batch, spending: Spending) -> None:
        self.batch = batch
        self._world = world
        self._spending = spending
        # Of the rows that wait: how many, from the first on, and which rows their numbers' limits have been spent on.
        self._admitted = 0
        self._spent: list[tuple[int, str]] = []
        self._texts = 0
        self._good: list[Good] = []
        self._rejects: list[Reject] = []
        self._passed = 0
        self._heard_at = batch.heard_at
        self._is_staged = False
        size = world.settings.batch_chunk_size
        self._joined = None if batch.test or size == 1 else size

    def add(self, checked: Good | Reject | None) -> None:
        """Take the next row: good, refused, or None for a number that was taken before."""
        if isinstance(checked, Good):
            self._good.append(checked)
        elif checked is not None:
            self._rejects.append(checked)
        else:
            self._passed += 1
        if len(self._good) + len(self._rejects) >= PIECE:
            self.flush()

    def be_heard(self) -> None:
        """Say that the upload is alive, where that was not said of late."""
        if self._world.clock.now() - self._heard_at >= _HEARD_EVERY:
            with self._world.database.transaction() as connection:
                self._touch(connection)

    def admit(self) -> None:
        """Spend the numbers' limits on the rows that wait, and refuse those over them; before ``stage``.

        Raises:
            RateLimited: more rows of the client would wait to be sent than SMSAPI_BATCH_MAX_WAITING_ROWS.

        """
        if self._is_in_vain and not self.batch.dry_run:
            return
        with self._world.database.read() as connection:
            # Not spent on whoever does not want to be texted.
            self._turn_away(connection)
            self._refuse_too_many(connection)
        new = self._good[self._admitted :]
        admitted, refused = self._spending.admit(new)
        self._spent += [(row.row, row.number) for row in admitted]
        self._good[self._admitted :] = admitted
        self._rejects += refused
        self._admitted = len(self._good)

    def settle(self) -> None:
        """Go on to the next rows, once what was staged is committed; rows that were not are given back their limits."""
        staged = set() if self._is_in_vain else {row.row for row in self._good}
        unsent = [spent for spent in self._spent if spent[0] not in staged]
        self._good, self._rejects, self._spent, self._admitted = [], [], [], 0
        self._spending.give_back(unsent)

    def spend_texts(self) -> None:
        """Spend the limits that count all texts of a batch, which is then as good as accepted.

        Raises:
            RateLimited: they do not fit.

        """
        self._spending.spend_texts(self.batch.accepted)
        self._texts = self.batch.accepted

    def give_back(self) -> None:
        """Take back what was spent on the batch, but for the rows that are staged: it will never be accepted."""
        unsent, self._spent = self._spent, []
        self._spending.give_back(unsent)
        texts, self._texts = self._texts, 0
        self._spending.give_back_texts(texts)

    def stage(self, connection: Connection) -> None:
        """Store what waits, good rows only where any may be sent; hold the batch until this transaction ends."""
        self._turn_away(connection)
        self._count()
        self._touch(connection)
        if not self._is_in_vain:
            staging.stage_rows(connection, self.batch.id, self._good, joined=self._joined)
            self._is_staged = self._is_staged or bool(self._good)
        staging.stage_rejects(connection, self.batch.id, self._rejects)

    def flush(self) -> None:
        """Store what waits in a transaction of its own; where nothing may be sent, no good row stays behind it."""
        self.admit()
        with self._world.database.transaction() as connection:
            self.stage(connection)
        self.settle()
        self._world.checkpoint("upload.staged")
        if self._is_in_vain and self._is_staged:
            staging.drop_rows(self._world.database, self.batch.id, dropped=self._spending.give_back)
            self._is_staged = False

    @property
    def is_refused(self) -> bool:
        """Say whether the batch is to be sent whole or not at all, and cannot be sent whole."""
        return self.batch.all_or_nothing and self.batch.rejected > 0

    @property
    def _is_in_vain(self) -> bool:
        return self.batch.dry_run or self.is_refused

    def _turn_away(self, connection: Connection) -> None:
        """Move those who do not want to be texted to the refused ones."""
        if not self._good:
            return
        batch, numbers = self.batch, [row.number for row in self._good]
        found = staging.opted_out_since(
            connection, numbers, client_id=batch.client_id, sender=batch.sender, test=batch.test
        )
        if found:
            code = RecipientOptedOut.code
            self._rejects += [
                Reject(row=row.row, value=row.number, code=code, message=said_of(found[row.number]))
                for row in self._good
                if row.number in found
            ]
            self._admitted -= sum(row.number in found for row in self._good[: self._admitted])
            self._good = [row for row in self._good if row.number not in found]

    def _refuse_too_many(self, connection: Connection) -> None:
        most = self._world.settings.batch_max_waiting_rows
        if self.batch.dry_run or not self._good:
            return
        waiting = count_waiting(connection, self.batch)
        if waiting + self.batch.accepted + len(self._good) > most:
            raise RateLimited(
                f"{waiting} rows of the client's other batches wait to be sent, and no more than {most} may in all: "
                "send the rest once some of them have left.",
                retry_after_seconds=_RETRY_WAITING_SECONDS,
            )

    def _count(self) -> None:
        batch, good, rejects = self.batch, self._good, self._rejects
        self.batch = replace(
            batch,
            accepted=batch.accepted + len(good),
            rejected=batch.rejected + len(rejects),
            duplicates=batch.duplicates + self._passed,
            segments=batch.segments + sum(row.segments for row in good),
            price_micros=_sum_of(batch, good),
        )
        self._passed = 0

    def _touch(self, connection: Connection) -> None:
        before, self._heard_at = self._heard_at, self._world.clock.now()
        self.batch = replace(self.batch, heard_at=self._heard_at)
        rows, batch = batches.c, self.batch
        same_key = rows.idempotency_key.is_not_distinct_from(batch.idempotency_key)
        # Whoever gave the upload up for lost has written another moment.
        own = (rows.id == batch.id, rows.status == RECEIVING, same_key, rows.heard_at == before)
        counted: dict[str, Any] = {name: getattr(batch, name) for name in _COUNTED}
        if connection.execute(update(batches).where(*own).values(**counted).returning(rows.id)).first() is None:
            raise _lost(batch)


_COUNTED: Final = ("heard_at", "accepted", "rejected", "duplicates", "segments", "price_micros")


def _sum_of(batch: Batch, good: list[Good]) -> int | None:
    """Return what all rows cost; None where that of a single one is not known, for a part of it would mislead."""
    known = [row.price_micros for row in good if row.price_micros is not None]
    if len(known) < len(good) or (batch.accepted and batch.price_micros is None):
        return None
    return batch.price_micros if not known else (batch.price_micros or 0) + sum(known)


def _lost(batch: Batch) -> Unavailable | IdempotencyInProgress:
    if batch.idempotency_key is None:
        return Unavailable("The upload took too long and was given up; send it again.", retry_after_seconds=1)
    return IdempotencyInProgress(
        "Another upload with this Idempotency-Key has taken over.", retry_after_seconds=_RETRY_SECONDS
    )
