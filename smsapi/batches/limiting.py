"""Limits of a batch: a text to each number as its rows come, all of its texts when it is accepted, or none of them."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

from smsapi.auth.models import Caller
from smsapi.auth.shares import HOUR, client_identity, key_identity, limit_text, number_identity
from smsapi.batches.checking import Good
from smsapi.batches.store import Reject
from smsapi.deps import Deps
from smsapi.errors import RateLimited
from smsapi.limits.charges import charges_of, refuse_spent
from smsapi.limits.gcra import Charge, Verdict
from smsapi.limits.store import LimitStoreDown
from smsapi.log import get_logger

log = get_logger()

_SAID: Final = "A limit of texts to this number is spent."


class Spending:
    """What one batch spends of its client's limits. Not for several threads at once.

    ``token`` marks the repetitions of an upload, by its Idempotency-Key: what one of them has spent, the next does not
    spend again. ``standing`` is the last verdict on the limits that count all of a batch's texts.
    """

    def __init__(self, world: Deps, caller: Caller, *, dry_run: bool, token: str | None) -> None:
        self.standing: Verdict | None = None
        self._world = world
        self._caller = caller
        self._dry_run = dry_run
        self._token = token
        # Up to which row was spent when: what has drained since then is not given back.
        self._spent_through: list[int] = []
        self._spent_at: list[datetime] = []
        self._texts_at = world.clock.now()
        self._once_seconds = 0 if token is None else world.settings.idempotency_ttl_seconds
        limits = caller.client.limits
        self._of_number = limit_text(world.settings, limits, "number")
        self._of_all = {name: limit_text(world.settings, limits, name) for name in ("send", "key")}

    def admit(self, rows: Sequence[Good]) -> tuple[list[Good], list[Reject]]:
        """Spend a text to each row's number; return the rows that may be sent, and a reject for each of the others.

        Nothing is spent of a dry run, nor where a number is over its limit.
        """
        if not self._of_number or not rows:
            return list(rows), []
        groups = [self._charges_of_number(row.number) for row in rows]
        verdicts = self._world.limits.decide_each(groups, spend=not self._dry_run, once=self._token)
        self._spent_through.append(rows[-1].row)
        self._spent_at.append(self._world.clock.now())
        admitted = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.allowed]
        return admitted, [
            Reject(row=row.row, value=row.number, code=RateLimited.code, message=_SAID)
            for row, verdict in zip(rows, verdicts, strict=True)
            if not verdict.allowed
        ]

    def give_back(self, rows: Sequence[tuple[int, str]]) -> None:
        """Take back what ``admit`` spent on these rows, each with its number, which will not be sent."""
        if not self._of_number or self._dry_run:
            return
        by_piece = groupby(rows, key=lambda row: bisect_left(self._spent_through, row[0]))
        for piece, some in by_piece:
            charges = [charge for _, number in some for charge in self._charges_of_number(number)]
            self._undo(charges, self._spent_at[piece])

    def require_room(self) -> None:
        """Raise :class:`RateLimited` where not a single text would fit, before any of the body is read."""
        self._decide(self._charges_of_all(1), spend=False)

    def spend_texts(self, count: int) -> None:
        """Spend so many texts at once, of a dry run none.

        Raises:
            RateLimited: they do not all fit; nothing was spent.

        """
        if count:
            self._decide(self._charges_of_all(count), spend=not self._dry_run)

    def give_back_texts(self, count: int) -> None:
        """Take back what ``spend_texts`` spent on a batch that was not accepted after all."""
        if count and not self._dry_run:
            self._undo(self._charges_of_all(count), self._texts_at)

    def _charges_of_number(self, number: str) -> list[Charge]:
        identity = number_identity(self._caller, number)
        return charges_of(self._of_number, "number", identity, once_seconds=self._once_seconds)

    def _charges_of_all(self, count: int) -> list[Charge]:
        shares = {"send": client_identity(self._caller), "key": key_identity(self._caller)}
        return [
            charge
            for name, text in self._of_all.items()
            for charge in charges_of(
                text, name, shares[name], cost=count, once_seconds=self._once_seconds, at_least=HOUR
            )
        ]

    def _decide(self, charges: Sequence[Charge], *, spend: bool) -> None:
        if not charges:
            return
        limits = self._world.limits
        self.standing = limits.spend(charges, once=self._token) if spend else limits.peek(charges)
        self._texts_at = self._world.clock.now()
        refuse_spent(self.standing)

    def _undo(self, charges: Sequence[Charge], spent_at: datetime) -> None:
        ago = (self._world.clock.now() - spent_at).total_seconds()
        try:
            self._world.limits.give_back(charges, once=self._token, seconds_ago=ago)
        except LimitStoreDown:
            log.warning("limits_not_given_back")
