"""What became of every message, counted at the far side and in the store, and the story of those that went wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select

from smsapi.batches.models import batch_rows, batches
from smsapi.db import Database
from smsapi.events.models import events as recorded
from smsapi.messages.models import message_attempts, messages
from smsapi.messages.statuses import QUEUED, SENDING, SENT, UNKNOWN
from tests.chaos.callers import Ledger

UNSETTLED = frozenset({QUEUED, SENDING, UNKNOWN})
_TAKEN = frozenset({SENT, "delivered"})


@dataclass(frozen=True, slots=True)
class Tally:
    """How many were acknowledged, how many texts the far side took, and who is missing, was texted twice or waits.

    ``lost`` are the acknowledged whose text the far side has not, or of whom it is said that they were not sent;
    ``broken`` are those whose caller got no answer, or one that should not have been. All but the counts are numbers.
    """

    accepted: int
    taken: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    unknown: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Say whether nothing went wrong."""
        return not (self.lost or self.duplicated or self.unknown or self.broken)

    def offenders(self) -> Iterator[tuple[str, str]]:
        """Yield what went wrong, as a word and a number."""
        for word in ("lost", "duplicated", "unknown", "broken"):
            yield from ((word, number) for number in getattr(self, word))


def count(store: Database, texts: Mapping[str, int], ledger: Ledger) -> Tally:
    """Compare what callers were told, what the store says and what the far side took (``texts`` by bare number)."""
    with store.read() as connection:
        rows = connection.execute(select(messages.c.to_number, messages.c.status))
        found = {row.to_number: row.status for row in rows}
    missing = [n for n in ledger.acknowledged if texts.get(n[1:], 0) == 0 or found.get(n) not in _TAKEN | UNSETTLED]
    unanswered = [n for n, order in ledger.asked.items() if n not in ledger.acknowledged and not order.once]
    return Tally(
        accepted=len(ledger.acknowledged),
        taken=sum(texts.values()),
        lost=tuple(missing),
        duplicated=tuple(f"+{number}" for number, taken in texts.items() if taken > 1),
        unknown=tuple(number for number, status in found.items() if status in UNSETTLED),
        broken=(*unanswered, *ledger.contradicted),
    )


def count_unsettled(store: Database) -> int:
    """Return how many messages are still on their way, those of a batch that are not made yet too."""
    with store.read() as connection:
        on_their_way = select(func.count()).where(messages.c.status.in_(UNSETTLED))
        accepted = select(batches.c.id).where(batches.c.accepted_at.is_not(None))
        unmade = select(func.count()).where(batch_rows.c.batch_id.in_(accepted))
        return connection.execute(on_their_way).scalar_one() + connection.execute(unmade).scalar_one()


def stories(store: Database, tally: Tally, ledger: Ledger, *, at_most: int = 5) -> Iterator[str]:
    """Yield, for the first few that went wrong, all that is known of them."""
    for word, number in list(tally.offenders())[:at_most]:
        yield f"{word}: {number} {ledger.refused.get(number) or ledger.contradicted.get(number) or ''}"
        yield from (f"    {line}" for line in _story(store, number))


def _story(store: Database, number: str) -> Iterator[str]:
    with store.read() as connection:
        for row in connection.execute(select(messages).where(messages.c.to_number == number)).all():
            yield _show(row, "id", "status", "attempts", "epoch", "due_at", "provider_uuid", "created_at", "updated_at")
            events = select(recorded).where(recorded.c.message_id == row.id).order_by(recorded.c.id)
            lines = [(each.at, f"{each.type} {each.data}") for each in connection.execute(events)]
            attempts = select(message_attempts).where(message_attempts.c.message_id == row.id)
            for each in connection.execute(attempts):
                lines.append((each.started_at, f"attempt {each.number} of epoch {each.epoch}"))
                if each.finished_at is not None:
                    lines.append((each.finished_at, f"attempt {each.number} came to {each.outcome}: {each.reason}"))
            yield from (f"{at:%H:%M:%S.%f} {line}" for at, line in sorted(lines))


def _show(row: Row[Any], *names: str) -> str:
    return ", ".join(f"{name}={getattr(row, name)}" for name in names)
