"""Batches of messages in doubt: one question to Plivo's list for many of them where that is cheaper.

After an outage many messages are in doubt and few or none were taken: one question over the whole window settles them
all. Where much was taken in the window it would take more pages than there are numbers in doubt, and each number is
asked for by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from smsapi.plivo.lookup import Query
from smsapi.reconcile.doubts import Case
from smsapi.reconcile.matching import SKEW

# A longer window would hold much that is not in doubt.
_LONGEST_WINDOW: Final = timedelta(minutes=10)


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
