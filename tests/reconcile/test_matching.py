"""Which messages in doubt Plivo's list shows as taken: examples, then laws that hold whatever the list says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.plivo.lookup import Record
from smsapi.reconcile.matching import SKEW, Doubt, NotTaken, Taken, Undecided, Verdict, conclude

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
TO, SENDER = "+14155552671", "+14155550100"
A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def doubt(message: UUID, start: float, end: float, *, attempt: int = 1, to: str = TO, sender: str = SENDER) -> Doubt:
    return Doubt(message, attempt, to, sender, after(start), after(end))


def record(name: str, seconds: float, *, to: str = TO, sender: str = SENDER, state: str = "sent") -> Record:
    return Record(name, to.removeprefix("+"), sender.removeprefix("+"), after(seconds), state)


def settle(
    doubts: Sequence[Doubt], *records: Record, known: Sequence[str] = (), skew: float = 5
) -> dict[UUID, Verdict]:
    return conclude(doubts, records, known_uuids=set(known), skew=timedelta(seconds=skew))


def test_nothing_in_doubt_needs_no_verdict():
    assert settle([], record("r", 1)) == {}


def test_a_message_without_a_record_was_not_taken():
    assert settle([doubt(A, 0, 10)]) == {A: NotTaken()}


def test_a_message_with_its_one_record_was_taken():
    found = record("r", 3)
    assert settle([doubt(A, 0, 10)], found) == {A: Taken(found)}


@pytest.mark.parametrize(("seconds", "is_candidate"), [(-5.001, False), (-5, True), (15, True), (15.001, False)])
def test_the_window_is_as_wide_as_the_clocks_may_differ(seconds, is_candidate):
    verdict = settle([doubt(A, 0, 10)], record("r", seconds))[A]
    assert isinstance(verdict, Taken if is_candidate else NotTaken)


def test_the_usual_difference_of_clocks_is_five_seconds():
    assert timedelta(seconds=5) == SKEW
    found = record("r", 14)
    assert conclude([doubt(A, 0, 10)], [found], known_uuids=set()) == {A: Taken(found)}


def test_a_clock_that_was_set_back_within_an_attempt_leaves_it_its_window():
    for seconds in (-5, 5, 15):
        assert isinstance(settle([doubt(A, 10, 0)], record("r", seconds))[A], Taken)


@pytest.mark.parametrize(
    ("ours", "plivos", "same"),
    [
        ("+14155552671", "14155552671", True),
        ("+14155552671", "+1 (415) 555-2671", True),
        ("+14155552671", "14155552***", True),
        ("+14155552671", "1415555***", True),
        ("+14155552671", "14155552672", False),
        ("+14155552671", "1415555267", False),
        ("+14155552671", "14155553***", False),
    ],
)
def test_numbers_are_the_same_in_digits_as_far_as_they_are_shown(ours, plivos, same):
    verdict = settle([doubt(A, 0, 10, to=ours)], record("r", 3, to=plivos))[A]
    assert isinstance(verdict, Taken) is same


@pytest.mark.parametrize(
    ("ours", "plivos", "same"),
    [
        ("+14155550100", "14155550100", True),
        ("ACME", "acme", True),
        ("VM-PLVS", "VMPLVS", True),
        ("12345", "12345", True),
        ("ACME", "ACME2", False),
        ("+14155550100", "14155550101", False),
    ],
)
def test_senders_are_the_same_in_letters_and_digits(ours, plivos, same):
    verdict = settle([doubt(A, 0, 10, sender=ours)], record("r", 3, sender=plivos))[A]
    assert isinstance(verdict, Taken) is same


def test_a_record_of_another_message_of_ours_is_no_candidate():
    assert settle([doubt(A, 0, 10)], record("AB-c", 3), known=["ab-C"]) == {A: NotTaken()}


def test_as_many_records_as_messages_are_given_out_in_order_of_time():
    first, second = record("z", 3), record("a", 4)
    doubts = [doubt(B, 1, 11), doubt(A, 0, 10)]
    assert settle(doubts, second, first) == {A: Taken(first), B: Taken(second)}


def test_a_long_attempt_that_began_before_a_short_one_gets_the_later_record():
    early, late = record("r1", 20), record("r2", 60)
    assert settle([doubt(A, 0, 60), doubt(B, 15, 20)], early, late) == {A: Taken(late), B: Taken(early)}


def test_as_many_records_as_messages_that_do_not_fit_them_decide_nothing():
    # Two records within the reach of one message only, and two messages that share one of them.
    doubts = [doubt(A, 0, 1), doubt(B, 0, 1), doubt(C, 0, 60)]
    found = [record("r1", 1), record("r2", 40), record("r3", 50)]
    assert settle(doubts, *found) == {A: Undecided(("r1",)), B: Undecided(("r1",)), C: Undecided(("r1", "r2", "r3"))}


def test_fewer_records_than_messages_do_not_say_which_was_taken():
    doubts = [doubt(A, 0, 10), doubt(B, 1, 11)]
    assert settle(doubts, record("r", 3)) == {A: Undecided(("r",)), B: Undecided(("r",))}


def test_windows_that_lie_apart_tell_the_taken_from_the_others():
    found = record("r", 33)
    doubts = [doubt(A, 0, 10), doubt(B, 30, 40), doubt(C, 60, 70)]
    assert settle(doubts, found) == {A: NotTaken(), B: Taken(found), C: NotTaken()}


def test_a_message_out_of_reach_of_the_only_record_was_not_taken_though_its_window_touches_a_shared_one():
    found = record("r", 3)
    assert settle([doubt(A, 0, 10), doubt(B, 9, 19)], found) == {A: Taken(found), B: NotTaken()}


def test_more_records_than_a_message_leave_it_undecided():
    assert settle([doubt(A, 0, 10)], record("r2", 4), record("r1", 3)) == {A: Undecided(("r1", "r2"))}


def test_among_more_records_than_messages_one_that_can_only_have_one_has_it():
    only, other, more = record("r1", 1), record("r2", 20), record("r3", 21)
    doubts = [doubt(A, 0, 2), doubt(B, 0, 20)]
    assert settle(doubts, only, other, more) == {A: Taken(only), B: Undecided(("r2", "r3"))}


def test_a_stranger_to_another_number_does_not_matter():
    found = record("r", 3)
    assert settle([doubt(A, 0, 10)], found, record("s", 3, to="+14155552672")) == {A: Taken(found)}


def test_a_masked_number_ties_messages_to_two_numbers_together():
    doubts = [doubt(A, 0, 10), doubt(B, 0, 10, to="+14155552672")]
    assert settle(doubts, record("r", 3, to="14155552***")) == {A: Undecided(("r",)), B: Undecided(("r",))}


def test_a_record_that_stands_on_two_pages_counts_once():
    queued, sent = record("r", 3, state="queued"), record("R", 3, state="sent")
    verdict = settle([doubt(A, 0, 10)], queued, sent)[A]
    assert isinstance(verdict, Taken)
    again = record("r", 3, state="sent")
    assert settle([doubt(A, 0, 10)], queued, again) == settle([doubt(A, 0, 10)], again, queued)
    assert settle([doubt(A, 0, 10), doubt(B, 0, 10)], queued, sent)[B] == Undecided((verdict.record.message_uuid,))


def test_a_message_is_taken_where_one_of_its_attempts_was():
    found = record("r", 12)
    attempts = [doubt(A, 0, 10), doubt(A, 11, 21, attempt=2)]
    assert settle(attempts, found) == {A: Taken(found)}
    assert settle([doubt(A, 0, 10), doubt(A, 60, 70, attempt=2)], found) == {A: Taken(found)}


def test_a_message_that_two_attempts_brought_to_plivo_is_taken_by_the_first():
    first, second = record("r1", 3), record("r2", 15)
    assert settle([doubt(A, 0, 10), doubt(A, 11, 21, attempt=2)], second, first) == {A: Taken(first)}


def test_a_message_with_more_records_than_attempts_is_undecided():
    found = [record(f"r{number}", 12 + number) for number in range(3)]
    attempts = [doubt(A, 0, 10), doubt(A, 11, 21, attempt=2)]
    assert settle(attempts, *found) == {A: Undecided(("r0", "r1", "r2"))}


def test_a_message_none_of_whose_attempts_has_a_record_was_not_taken():
    assert settle([doubt(A, 0, 10), doubt(A, 60, 70, attempt=2)], record("r", 30)) == {A: NotTaken()}


def test_the_attempts_of_one_message_do_not_count_for_another():
    doubts = [doubt(A, 0, 10), doubt(A, 1, 11, attempt=2), doubt(B, 2, 12)]
    verdicts = settle(doubts, record("r1", 3), record("r2", 4))
    assert verdicts == {A: Undecided(("r1", "r2")), B: Undecided(("r1", "r2"))}


# Few numbers, senders, moments and UUIDs, so that windows overlap and records are fought over.
NUMBERS, SENDERS = ["+14155552671", "+14155552672", "+442071838750"], ["+14155550100", "ACME"]
SHOWN = [*(number.removeprefix("+") for number in NUMBERS), "14155552***"]
NAMES = ["u1", "u2", "u3", "u4", "u5", "U1"]
SKEW_SECONDS = 2

doubts_of_many = st.lists(
    st.builds(
        lambda message, attempt, start, length, to, sender: doubt(
            UUID(int=message), start, start + length, attempt=attempt, to=to, sender=sender
        ),
        st.integers(1, 4),
        st.integers(1, 2),
        st.integers(0, 12),
        st.integers(0, 6),
        st.sampled_from(NUMBERS),
        st.sampled_from(SENDERS),
    ),
    max_size=6,
)
records_of_many = st.lists(
    st.builds(
        lambda name, seconds, to, sender, state: record(name, seconds, to=to, sender=sender, state=state),
        st.sampled_from(NAMES),
        st.integers(-4, 22),
        st.sampled_from(SHOWN),
        st.sampled_from(["14155550100", "acme"]),
        st.sampled_from(["queued", "sent"]),
    ),
    max_size=7,
)
known_of_many = st.sets(st.sampled_from(["u1", "U5", "elsewhere"]))


def may_be(attempt: Doubt, one: Record) -> bool:
    """Say whether the record can be the attempt's, by the words of the rule."""
    skew = timedelta(seconds=SKEW_SECONDS)
    ours = attempt.to.removeprefix("+")
    same_number = ours.startswith(one.to.rstrip("*")) and len(ours) == len(one.to)
    same_sender = attempt.sender.removeprefix("+").lower() == one.sender.lower()
    return same_number and same_sender and attempt.started_at - skew <= one.taken_at <= attempt.ended_at + skew


def candidates_of(message: UUID, doubts, records, known) -> set[str]:
    ours = {name.lower() for name in known}
    return {
        one.message_uuid.lower()
        for one in records
        for attempt in doubts
        if attempt.message_id == message and may_be(attempt, one) and one.message_uuid.lower() not in ours
    }


def judge(doubts, records, known) -> dict[UUID, Verdict]:
    return settle(doubts, *records, known=list(known), skew=SKEW_SECONDS)


def taken_in(verdicts: dict[UUID, Verdict]) -> list[str]:
    return [verdict.record.message_uuid.lower() for verdict in verdicts.values() if isinstance(verdict, Taken)]


@given(doubts_of_many, records_of_many, known_of_many)
def test_not_taken_is_said_exactly_where_nothing_can_be_the_message(doubts, records, known):
    verdicts = judge(doubts, records, known)
    assert verdicts.keys() == {attempt.message_id for attempt in doubts}
    for message, verdict in verdicts.items():
        assert (verdict == NotTaken()) is not bool(candidates_of(message, doubts, records, known))


@given(doubts_of_many, records_of_many, known_of_many)
def test_a_verdict_names_only_candidates_and_no_record_twice(doubts, records, known):
    verdicts = judge(doubts, records, known)
    taken = taken_in(verdicts)
    assert len(taken) == len(set(taken))
    for message, verdict in verdicts.items():
        candidates = candidates_of(message, doubts, records, known)
        if isinstance(verdict, Taken):
            assert verdict.record in records
            assert verdict.record.message_uuid.lower() in candidates
        if isinstance(verdict, Undecided):
            named = [name.lower() for name in verdict.candidates]
            assert named
            assert len(named) == len(set(named))
            assert set(named) <= candidates - set(taken)


@given(doubts_of_many, records_of_many, known_of_many, st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_makes_no_difference(doubts, records, known, chance):
    before = judge(doubts, records, known)
    mixed_doubts, mixed_records = list(doubts), list(records)
    chance.shuffle(mixed_doubts)
    chance.shuffle(mixed_records)
    assert judge(mixed_doubts + mixed_doubts[:1], mixed_records + mixed_records[:1], known) == before


@given(doubts_of_many, records_of_many, known_of_many, records_of_many)
def test_records_that_can_be_nobodys_change_nothing(doubts, records, known, more):
    idle = [one for one in more if not any(may_be(attempt, one) for attempt in doubts)]
    of_ours = [Record("elsewhere", one.to, one.sender, one.taken_at, one.state) for one in more]
    before = judge(doubts, records, {*known, "elsewhere"})
    assert judge(doubts, idle + records + of_ours, {*known, "elsewhere"}) == before


@given(doubts_of_many, records_of_many, known_of_many)
def test_what_was_taken_once_written_down_leaves_no_other_without_a_candidate(doubts, records, known):
    verdicts = judge(doubts, records, known)
    settled = {message for message, verdict in verdicts.items() if isinstance(verdict, Taken)}
    rest = [attempt for attempt in doubts if attempt.message_id not in settled]
    again = judge(rest, records, {*known, *taken_in(verdicts)})
    for message, verdict in again.items():
        assert (verdict == NotTaken()) is (verdicts[message] == NotTaken())


happenings = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 100), st.sampled_from(NUMBERS), st.booleans()),
    max_size=6,
)


def happened(each: list) -> tuple[list[Doubt], list[Record]]:
    """What really came of attempts, one of each message: a record within its time, or none."""
    doubts, records = [], []
    for message, (start, length, share, to, is_taken) in enumerate(each):
        doubts.append(doubt(UUID(int=message), start, start + length, to=to, sender="ACME"))
        if is_taken:
            records.append(record(f"u{message}", start + length * share / 100, to=to, sender="ACME"))
    return doubts, records


@given(happenings)
def test_no_message_that_was_taken_is_ever_called_not_taken(each):
    doubts, records = happened(each)
    verdicts = judge(doubts, records, set())
    assert not [number for number, one in enumerate(each) if one[-1] and verdicts[UUID(int=number)] == NotTaken()]


@given(happenings)
def test_where_all_were_taken_and_nobody_else_sent_all_are_settled(each):
    doubts, records = happened([(*one[:-1], True) for one in each])
    verdicts = judge(doubts, records, set())
    assert sorted(taken_in(verdicts)) == sorted(one.message_uuid for one in records)


@given(st.lists(st.booleans(), max_size=8))
def test_attempts_that_lie_apart_are_each_settled_as_they_happened(each):
    apart = [(20 * place, 6, 50, TO, is_taken) for place, is_taken in enumerate(each)]
    doubts, records = happened(apart)
    verdicts = judge(doubts, records, set())
    assert [isinstance(verdicts[UUID(int=number)], Taken) for number in range(len(each))] == each
    assert [isinstance(verdicts[UUID(int=number)], NotTaken) for number in range(len(each))] == [not it for it in each]
