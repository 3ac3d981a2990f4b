"""Reader of Plivo's message list: every question to it is asked here, within what Plivo allows of an account.

Plivo gives 20 list calls a minute and 20 records a call (plivo-facts 1.7, 2.4). Two ask for them: who looks for
messages of unknown outcome, and who asks for receipts that never came. The unknown ones may have to be sent again, so
they go first: while one of them is due, or waits for its question in any process, no other question is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from sqlalchemy import select, tuple_, update

from smsapi.deps import Deps
from smsapi.log import get_logger, reason_of
from smsapi.messages.models import CHORE, messages
from smsapi.messages.statuses import UNKNOWN
from smsapi.pacing.gates import close_gate, pay, read_gates
from smsapi.pacing.tolls import LIST_RESERVED, toll_of_list
from smsapi.plivo.listing import PAGE_SIZE
from smsapi.plivo.lookup import LookupFailed, Page, Query, Record

log = get_logger()

_LONGEST_PAUSE_SECONDS: Final = 10.0
# A list that fails is asked again about as late as a message after so many attempts.
_AS_AFTER_ATTEMPT: Final = 5
# Of one number within minutes nobody sends so much; a list that shows it has another filter in mind, or no end.
_MOST_PAGES_OF_A_NUMBER: Final = 50
# Kept for longer, it was under a clock that has been set back since.
_LONGEST_RESERVED: Final = timedelta(minutes=5)
_YIELD_SECONDS: Final = 10.0
# However long Plivo says to wait.
_LONGEST_AFTER_FAILURE_SECONDS: Final = 86400.0
_FIRST: Final = 0

STOPS: Final = "this process stops"
PACED: Final = "Plivo's list may not be asked more often"


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was learnt; asking again makes sense after so many seconds.

    ``reason`` may be shown to callers: it holds no secret, no number, and none of Plivo's own words.
    """

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TooMany:
    """The window holds more than is worth reading, or than can be read: each number is to be asked for by itself."""


class Hold:
    """The lease of the messages that are asked for, which each answer of the list makes longer.

    They have this ``status``, and are held under these epochs. A list of many pages takes longer than one lease: were
    it broken off at its end, it would be begun from the start each time, and end never.
    """

    def __init__(self, world: Deps, held: Mapping[UUID, int], stopping: Callable[[], bool], *, status: str) -> None:
        self._world = world
        self._held = held
        self._status = status
        self.stopping = stopping
        self.until = self._half_a_lease()

    @property
    def goes_first(self) -> bool:
        """Return whether these messages have the list before all others."""
        return self._status == UNKNOWN

    @property
    def is_of_one(self) -> bool:
        """Return whether a single message is asked for."""
        return len(self._held) == 1

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
            still = (mine, columns.status == self._status, columns.due_at.is_not(None))
            # In the order in which whoever settles several holds them.
            held = select(columns.id).where(*still).order_by(columns.id).with_for_update()
            connection.execute(update(messages).where(columns.id.in_(held)).values(due_at=due))
        self.until = until

    def _half_a_lease(self) -> datetime:
        # The rest of it is for the call that began just before its end, and for writing down what that showed.
        return self._world.clock.now() + timedelta(seconds=self._world.settings.lease_seconds / 2)


def read_list(
    world: Deps,
    query: Query,
    hold: Hold,
    *,
    questions: int,
    is_enough: Callable[[Sequence[Record]], bool] = lambda _records: False,
) -> Sequence[Record] | TooMany | Later:
    """Return every record that the query finds, on all pages; waits for its turn as long as the hold lasts.

    ``questions`` is how many it would take to ask for each number by itself: where a query for every recipient has
    more pages than that, it is :class:`TooMany`. ``is_enough`` is given each page's records as they come, and ends the
    reading where it returns true.
    """
    records: dict[str, Record] = {}
    total: int | None = None
    offset: int | None = _FIRST
    pages = 0
    while offset is not None:
        page = _ask(world, replace(query, offset=offset), hold)
        if isinstance(page, Later):
            return page
        pages += 1
        records |= {record.message_uuid: record for record in page.records}
        if is_enough(page.records):
            return list(records.values())
        stopped = _stopped_at(world, query, page, offset, pages=pages, questions=questions)
        if stopped is not None:
            return stopped
        # Of the first page: what is taken while we read is newer than what is in doubt, and moves that to later pages.
        total = page.total if total is None else total
        offset = page.next_offset
    if len(records) < (total or 0):
        # It changed in another way: what was skipped would count as never taken.
        return Later("Plivo's list changed while it was read", world.settings.dispatch_sweep_seconds)
    return list(records.values())


def _stopped_at(
    world: Deps, query: Query, page: Page, offset: int, *, pages: int, questions: int
) -> TooMany | Later | None:
    """Return why it makes no sense to read on behind this page, or None where it does."""
    in_a_circle = page.next_offset is not None and page.next_offset <= offset
    if query.to is None:
        # What has no further pages may still answer for each number.
        return TooMany() if in_a_circle or page.total > PAGE_SIZE * questions else None
    if in_a_circle:
        return Later("Plivo's list goes in a circle", world.settings.dispatch_sweep_seconds)
    if page.next_offset is not None and pages >= _MOST_PAGES_OF_A_NUMBER:
        return Later("Plivo's list has too many pages for one number", _after_failure(world, None))
    return None


def _ask(world: Deps, query: Query, hold: Hold) -> Page | Later:
    while True:
        if hold.stopping():
            return Later(STOPS, 0.0)
        wait = _pay(world, hold)
        if isinstance(wait, Later):
            return wait
        if wait <= 0:
            break
        if world.clock.now() + timedelta(seconds=wait) > hold.until or wait > _LONGEST_PAUSE_SECONDS:
            return Later(PACED, wait)
        world.clock.sleep(wait)
    world.checkpoint("list.before")
    found = _look_up(world, query, hold)
    world.checkpoint("list.returned")
    if isinstance(found, LookupFailed):
        # Plivo's own words are for the log alone.
        log.warning("list_failed", reason=found.reason, status=found.status)
        return Later(_reason_of(found), _after_failure(world, found.retry_after_seconds))
    hold.renew()
    return found


def _look_up(world: Deps, query: Query, hold: Hold) -> Page | LookupFailed:
    try:
        return world.provider.look_up(query)
    except Exception as error:  # what raises each time must not keep messages unknown for ever, and in silence
        if not hold.is_of_one:
            # It may be the fault of one of them only: whoever asked for several asks again for fewer.
            raise
        log.exception("list_raised")
        return LookupFailed(f"asking raised an error ({reason_of(error)})")


def _pay(world: Deps, hold: Hold) -> float | Later:
    """Pay for one question and return no time, or pay nothing and return how many seconds to wait."""
    now, toll = world.clock.now(), toll_of_list(world.settings)
    if not hold.goes_first and _is_wanted(world, now):
        return Later("messages whose outcome is unknown have Plivo's list first", _YIELD_SECONDS)
    with world.database.transaction() as connection:
        closed = pay(world.database, connection, [toll], now)
        wait = 0.0 if closed is None or closed.opens_at is None else (closed.opens_at - now).total_seconds()
        if hold.goes_first:
            # Until the next question of theirs may be asked, and whoever asks has woken up.
            kept = wait + 1 / toll.per_second + world.settings.dispatch_sweep_seconds
            close_gate(world.database, connection, LIST_RESERVED, {}, opens_at=now + timedelta(seconds=kept))
    return wait


def _is_wanted(world: Deps, now: datetime) -> bool:
    """Say whether an unknown message is due to be looked for, or waits for its question in some process."""
    due = select(messages.c.id).where(CHORE, messages.c.status == UNKNOWN, messages.c.due_at <= now).limit(1)
    with world.database.read() as connection:
        reserved = read_gates(connection, [LIST_RESERVED]).get(LIST_RESERVED)
        until = None if reserved is None else reserved.opens_at
        if until is not None and now < until <= now + _LONGEST_RESERVED:
            return True
        return connection.execute(due).first() is not None


def _after_failure(world: Deps, retry_after_seconds: float | None) -> float:
    wait = world.retry_policy.delay(_AS_AFTER_ATTEMPT, retry_after_seconds, world.random)
    # The policy bounds what a message waits for; the list is asked no sooner than Plivo says.
    wait = max(wait, retry_after_seconds or 0.0, world.settings.dispatch_sweep_seconds)
    return min(wait, _LONGEST_AFTER_FAILURE_SECONDS)


def _reason_of(failed: LookupFailed) -> str:
    if failed.status is None:
        return f"Plivo's list does not answer: {failed.reason}"
    if failed.status == HTTPStatus.OK:
        return f"Plivo's list cannot be used: {failed.reason}"
    if failed.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return f"Plivo's list refuses the account's credentials (status {failed.status})"
    return f"Plivo's list answers with status {failed.status}"
