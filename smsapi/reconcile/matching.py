"""Which messages of unknown outcome Plivo has taken, concluded from its list. Pure, and without a look at any text.

Two errors are possible and they are not alike: "not taken" for a message that was sends it a second time, "taken" for
one that was not loses it. Where the list does not decide, neither is said.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from smsapi.plivo.lookup import Record, digits_of, form_of_sender, may_be_masked

# By how much Plivo's clock and ours may differ, and the up to one second that its list may cut off.
SKEW = timedelta(seconds=5)

_MASK = "*"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One attempt whose outcome is unknown; Plivo took it, if at all, between the two moments (aware, our clock)."""

    message_id: UUID
    attempt: int
    to: str
    sender: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """Plivo has the message: this is its record."""

    record: Record


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Nothing in the list can be the message."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The message may be one of these records, given by their UUIDs, or none of them."""

    candidates: tuple[str, ...]


Verdict = Taken | NotTaken | Undecided

# The records that may be a doubt, by UUID in lower case.
_Claims = Mapping[Doubt, Mapping[str, Record]]


def conclude(
    doubts: Sequence[Doubt], records: Sequence[Record], *, known_uuids: AbstractSet[str], skew: timedelta = SKEW
) -> dict[UUID, Verdict]:
    """Return a verdict on each message in doubt.

    ``records`` is the whole list, every page of it, over the windows of all doubts. ``known_uuids`` are those of
    records that belong to other messages of ours. ``doubts`` should hold every attempt to these numbers from these
    senders whose outcome is not known, one still under way too: a record that is the one's may otherwise be given to
    the other.

    A record is a *candidate* for a doubt when its UUID is not known, its time is from ``started_at - skew`` to
    ``ended_at + skew``, its sender is the same in letters and digits (Plivo strips all else) whatever their case, and
    its number is the same in digits, or begins the same where the last digits are masked by ``*``. Doubts that share a
    candidate, also by way of others, are judged together:

    - No candidate: ``NotTaken``, and only then.
    - *Pairs*: each candidate, oldest first, goes to the doubt whose window ends first of those that may have it and
      have none yet.
    - All doubts and all candidates are paired: ``Taken``, each by its own. So it is where the doubts are attempts of
      one message and every candidate is paired: the message was taken by one attempt at least.
    - All doubts are paired and candidates are left over (a stranger's, or of a message not in doubt): any doubt may
      have been taken. The one with a single candidate is ``Taken``, the others are ``Undecided``.
    - Some doubt goes without: one of them was not taken, but not which, so all are ``Undecided``.

    A message with several attempts is ``Taken`` where one of them is (by the oldest such record), ``NotTaken`` where
    none has a candidate. No record is given to two doubts, and the order of the arguments makes no difference.
    """
    known = {uuid.lower() for uuid in known_uuids}
    unknown = _by_number(record for record in records if record.message_uuid.lower() not in known)
    claims = {doubt: _candidates(doubt, unknown, skew) for doubt in sorted(doubts, key=_by_end)}
    verdicts: defaultdict[UUID, list[Verdict]] = defaultdict(list)
    for group in _groups(claims):
        for doubt, verdict in _judge(group).items():
            verdicts[doubt.message_id].append(verdict)
    return {message_id: _together(each) for message_id, each in verdicts.items()}


def _by_number(records: Iterable[Record]) -> Mapping[str, Sequence[Record]]:
    """Return the records in order of time, by the digits of their numbers; those that are masked by the mask."""
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=_in_time):
        found[_MASK if _MASK in record.to else digits_of(record.to)].append(record)
    return found


def _candidates(doubt: Doubt, records: Mapping[str, Sequence[Record]], skew: timedelta) -> dict[str, Record]:
    # A clock that was set back in between leaves an end before the start.
    since = min(doubt.started_at, doubt.ended_at) - skew
    until = max(doubt.started_at, doubt.ended_at) + skew
    sender, number = form_of_sender(doubt.sender), digits_of(doubt.to)
    masked = [record for record in records.get(_MASK, ()) if may_be_masked(doubt.to, record.to)]
    alike = [*records.get(number, ()), *masked]
    found: dict[str, Record] = {}
    for record in sorted(alike, key=_in_time) if masked else alike:
        if since <= record.taken_at <= until and form_of_sender(record.sender) == sender:
            found.setdefault(record.message_uuid.lower(), record)
    return found


def _groups(claims: _Claims) -> Iterator[_Claims]:
    """Yield the doubts that hang together by their candidates, each group in the order given."""
    holders: defaultdict[str, list[Doubt]] = defaultdict(list)
    for doubt, candidates in claims.items():
        for uuid in candidates:
            holders[uuid].append(doubt)
    placed: set[Doubt] = set()
    for first in claims:
        if first in placed:
            continue
        group, waiting = {first}, [first]
        while waiting:
            for uuid in claims[waiting.pop()]:
                new = [doubt for doubt in holders.pop(uuid, ()) if doubt not in group]
                group.update(new)
                waiting += new
        placed |= group
        yield {doubt: claims[doubt] for doubt in sorted(group, key=_by_end)}


def _judge(group: _Claims) -> dict[Doubt, Verdict]:
    uuids = {uuid for candidates in group.values() for uuid in candidates}
    if not uuids:
        return {doubt: NotTaken() for doubt in group}
    pairs = _pairs(group)
    one_message = len({doubt.message_id for doubt in group}) == 1
    given: Mapping[Doubt, str] = {}
    if len(pairs) == len(uuids) and (len(pairs) == len(group) or one_message):
        given = pairs
    elif len(pairs) == len(group):
        given = {doubt: next(iter(candidates)) for doubt, candidates in group.items() if len(candidates) == 1}
    return {doubt: _verdict(candidates, given.get(doubt), given.values()) for doubt, candidates in group.items()}


def _pairs(group: _Claims) -> dict[Doubt, str]:
    """Return the records that go to doubts in order of time; ``group`` is sorted by the ends of its windows."""
    holders: defaultdict[str, list[Doubt]] = defaultdict(list)
    times: dict[str, datetime] = {}
    for doubt, candidates in group.items():
        for uuid, record in candidates.items():
            holders[uuid].append(doubt)
            times[uuid] = min(record.taken_at, times.get(uuid, record.taken_at))
    pairs: dict[Doubt, str] = {}
    for uuid in sorted(holders, key=lambda uuid: (times[uuid], uuid)):
        free = next((doubt for doubt in holders[uuid] if doubt not in pairs), None)
        if free is not None:
            pairs[free] = uuid
    return pairs


def _verdict(candidates: Mapping[str, Record], own: str | None, given: Iterable[str]) -> Verdict:
    if own is not None:
        return Taken(candidates[own])
    others = set(given)
    return Undecided(tuple(record.message_uuid for uuid, record in candidates.items() if uuid not in others))


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a message from those on its attempts."""
    taken = [verdict.record for verdict in verdicts if isinstance(verdict, Taken)]
    if taken:
        return Taken(min(taken, key=_in_time))
    open_ones = [verdict.candidates for verdict in verdicts if isinstance(verdict, Undecided)]
    if open_ones:
        return Undecided(tuple(dict.fromkeys(uuid for candidates in open_ones for uuid in candidates)))
    return NotTaken()


def _in_time(record: Record) -> tuple[object, ...]:
    """Sort by time; the rest only keeps the order of the list from mattering."""
    return (record.taken_at, record.message_uuid.lower(), repr(record))


def _by_end(doubt: Doubt) -> tuple[object, ...]:
    """Sort by the window's end; the rest only keeps the order of the doubts from mattering."""
    ends = sorted((doubt.started_at, doubt.ended_at), reverse=True)
    return (*ends, doubt.message_id, doubt.attempt, doubt.to, doubt.sender)
