"""Asking Plivo's list, as seldom as it may be asked: one question for many messages where that is cheaper.

Plivo gives 20 list calls a minute and 20 records a call (plivo-facts 1.7, 2.4). After an outage many messages are in
doubt and few or none were taken: one question over the whole window settles them all. Where much was taken in the
window it would take more pages than there are numbers in doubt, and each number is asked for by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select, tuple_, update

from smsapi.deps import Deps
from smsapi.messages.models import messages
from smsapi.messages.statuses import UNKNOWN
from smsapi.pacing.gates import pay_or_wait
from smsapi.pacing.tolls import toll_of_list
from smsapi.plivo.listing import PAGE_SIZE
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record
from smsapi.reconcile.doubts import Case
from smsapi.reconcile.matching import SKEW

# A longer window would hold much that is not in doubt.
_LONGEST_WINDOW: Final = timedelta(minutes=10)
_LONGEST_PAUSE_SECONDS: Final = 10.0
# A list that fails is asked again about as late as a message after so many attempts.
_AS_AFTER_ATTEMPT: Final = 5
_FIRST: int | None = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Cases of one sender that one question can be asked for."""

    cases: tuple[Case, ...]

    @property
    def numbers(self) -> frozenset[str]:
        """Return the recipients."""
        return frozenset(case.message.to_number for case in self.cases)

    def query(self) -> Query:
        """Return the question for all of it; Plivo's clock and ours may differ a little."""
        numbers = self.numbers
        since = min(case.since for case in self.cases) - SKEW
        until = max(case.until for case in self.cases) + SKEW
        return Query(self.cases[0].message.sender, next(iter(numbers)) if len(numbers) == 1 else None, since, until)

    def by_number(self) -> Iterator["Batch"]:
        """Return one batch for each recipient."""
        for number in sorted(self.numbers):
            yield Batch(tuple(case for case in self.cases if case.message.to_number == number))


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was learnt; asking again makes sense after so many seconds."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TooMany:
    """The window holds more than is worth reading."""


def batches(cases: Sequence[Case]) -> Iterator[Batch]:
    """Return the cases, which are in order of time, by sender and window."""
    for sender in dict.fromkeys(case.message.sender for case in cases):
        group: list[Case] = []
        for case in cases:
            if case.message.sender != sender:
                continue
            if group and case.until - group[0].since > _LONGEST_WINDOW:
                yield Batch(tuple(group))
                group = []
            group.append(case)
        yield Batch(tuple(group))


class Hold:
    """The lease of the messages that are looked into, which each answer of the list makes longer.

    A list of many pages takes longer than one lease: were it broken off at its end, it would be begun from the start
    each time, and end never.
    """

    def __init__(self, world: Deps, held: Mapping[UUID, int], stopping: Callable[[], bool]) -> None:
        self._world = world
        self._held = held
        self.stopping = stopping
        self.until = self._half_a_lease()

    def renew(self) -> None:
        """Begin the lease anew for those that are still held, where a good part of it is over."""
        until = self._half_a_lease()
        if (until - self.until).total_seconds() < self._world.settings.lease_seconds / 10:
            return
        columns = messages.c
        due = self._world.clock.now() + timedelta(seconds=self._world.settings.lease_seconds)
        mine = tuple_(columns.id, columns.epoch).in_(list(self._held.items()))
        with self._world.database.transaction() as connection:
            # What is settled already has no due time, or one of its own.
            still = (mine, columns.status == UNKNOWN, columns.due_at.is_not(None))
            # In the order in which whoever settles several holds them.
            held = select(columns.id).where(*still).order_by(columns.id).with_for_update()
            connection.execute(update(messages).where(columns.id.in_(held)).values(due_at=due))
        self.until = until

    def _half_a_lease(self) -> datetime:
        # The rest of it is for the call that began just before its end, and for writing down what that showed.
        return self._world.clock.now() + timedelta(seconds=self._world.settings.lease_seconds / 2)


def read_list(world: Deps, batch: Batch, hold: Hold) -> Sequence[Record] | TooMany | Later:
    """Return every record that may be one of the batch, on all pages; waits for its turn as long as the hold lasts."""
    records: dict[str, Record] = {}
    total: int | None = None
    offset = _FIRST
    query = batch.query()
    while offset is not None:
        page = _ask(world, Query(query.sender, query.to, query.since, query.until, offset), hold)
        if isinstance(page, Later):
            return page
        if query.to is None and page.total > PAGE_SIZE * len(batch.numbers):
            return TooMany()
        records |= {record.message_uuid: record for record in page.records}
        # Of the first page: what is taken while we read is newer than what is in doubt, and moves that to later pages.
        total = page.total if total is None else total
        if page.next_offset is not None and page.next_offset <= offset:
            return Later("the list goes in a circle", world.settings.dispatch_sweep_seconds)
        offset = page.next_offset
    if len(records) < (total or 0):
        # It changed in another way: what was skipped would count as never taken.
        return Later("the list changed while it was read", world.settings.dispatch_sweep_seconds)
    return list(records.values())


def _ask(world: Deps, query: Query, hold: Hold) -> Page | Later:
    if hold.stopping():
        return Later("this process stops", 0.0)
    toll = toll_of_list(world.settings)
    while (wait := pay_or_wait(world.database, [toll], world.clock.now()).total_seconds()) > 0:
        if world.clock.now() + timedelta(seconds=wait) > hold.until or wait > _LONGEST_PAUSE_SECONDS:
            return Later("the list may not be asked more often", wait)
        world.clock.sleep(wait)
    world.checkpoint("list.before")
    found = world.provider.look_up(query)
    world.checkpoint("list.returned")
    if isinstance(found, LookupFailed):
        wait = world.retry_policy.delay(_AS_AFTER_ATTEMPT, found.retry_after_seconds, world.random)
        return Later(found.reason, max(wait, world.settings.dispatch_sweep_seconds))
    hold.renew()
    return found
