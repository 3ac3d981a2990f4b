"""The checks of ``smsapi doctor`` that look at the queue: who sends, whether it moves, what is stopped or unknown."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from smsapi.batches.store import count_unmade
from smsapi.cli.admin import open_database
from smsapi.cli.examination import Patient, Verdict, failed, passed
from smsapi.cli.queue import describe_stop, describe_unknown
from smsapi.cli.worker_list import HOW_TO_SEND, describe_workers
from smsapi.clock import Clock, SystemClock, rfc3339
from smsapi.db import Database
from smsapi.messages.backlog import LaneBacklog, measure, oldest_unfinished_at
from smsapi.messages.lanes import NAMES, TEST, name_of
from smsapi.messages.unknown import read_unknown
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE, read_stops
from smsapi.timekeeping import set_clock_of
from smsapi.workers.store import list_workers

LATE_SECONDS: Final = 60.0
# In this time even a sender of one message in four seconds gets one through.
_WATCH_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5
# Two or three looks at Plivo's list beyond its first.
_UNKNOWN_LATE: Final = timedelta(minutes=5)


def check_workers(patient: Patient) -> Verdict:
    """Look who sends: with something due, somebody has to be alive."""
    with open_database() as store:
        # Heartbeats bear the time that all hosts share, which this host's own may be far from.
        clock = set_clock_of(store) if isinstance(patient.clock, SystemClock) else patient.clock
        with store.read() as connection:
            now = clock.now()
            found = list_workers(connection)
            due = count_unmade(connection, now) + sum(lane.waiting for lane in measure(connection, now).values())
            unfinished = oldest_unfinished_at(connection, now)
    said = "; ".join(describe_workers(found, now))
    if any(each.is_alive(now) for each in found):
        return passed(said)
    if due:
        return failed(f"{due} due, and no process that sends is alive{f': {said}' if said else ''}.", HOW_TO_SEND)
    if unfinished is not None:
        begun = f"messages were begun by {rfc3339(unfinished)} and not finished"
        return failed(f"{begun}, and no process that sends is alive{f': {said}' if said else ''}.", HOW_TO_SEND)
    return passed(f"nothing is due, and no process sends{f': {said}' if said else ''}")


def check_dispatcher(patient: Patient) -> Verdict:
    """Look whether what is due for long goes on."""
    with open_database() as store:
        first, stopped = _look(store, patient.clock)
        late = [lane for lane, each in first.items() if each.age_seconds(patient.clock.now()) > LATE_SECONDS]
        if not set(late) - stopped:
            waiting = sum(each.waiting for each in first.values())
            state = "some of them stopped" if late else "none for long"
            return passed(f"{waiting} waiting, {state}" if waiting else "nothing waits")
        until = patient.clock.now() + timedelta(seconds=_WATCH_SECONDS)
        while patient.clock.now() < until:
            patient.clock.sleep(_LOOK_SECONDS)
            if _moved(first, _look(store, patient.clock)[0]):
                return passed("messages wait, and go on")
    shown = ", ".join(name_of(lane) for lane in late if lane not in stopped)
    return failed(f"messages have been due for over {LATE_SECONDS:g} s ({shown}), and none goes on.", HOW_TO_SEND)


def _look(store: Database, clock: Clock) -> tuple[Mapping[int, LaneBacklog], set[int]]:
    """Return what waits, and the lanes that are stopped."""
    with store.read() as connection:
        stops = {gate.key for gate in read_stops(connection)}
        lanes = measure(connection, clock.now())
    everywhere = bool(stops & {PAUSE, CIRCUIT, ACCOUNT})
    stopped = {lane for lane, name in NAMES.items() if lane != TEST and (everywhere or f"{PAUSE}:{name}" in stops)}
    return lanes, stopped


def _moved(before: Mapping[int, LaneBacklog], after: Mapping[int, LaneBacklog]) -> bool:
    return any(
        now.waiting < each.waiting or now.oldest_due_at != each.oldest_due_at
        for each, now in ((each, after.get(lane, LaneBacklog())) for lane, each in before.items())
        if each.waiting
    )


def check_stops(_patient: Patient) -> Verdict:
    """Look whether anything is stopped."""
    with open_database() as store, store.read() as connection:
        closed = read_stops(connection)
    if not closed:
        return passed("nothing is stopped")
    advice = {
        ACCOUNT: "Top up the account at Plivo, or mend its credentials; it is tried again by itself.",
        CIRCUIT: "Look at the network and at Plivo's own status; it is tried again by itself.",
    }
    todo = filter(None, (advice.get(gate.key) for gate in closed))
    return failed(" ".join(describe_stop(gate) for gate in closed), " ".join(todo))


def check_unknown(patient: Patient) -> Verdict:
    """Look whether an outcome has been unknown for long, or waits for a person."""
    with open_database() as store, store.read() as connection:
        unknown = read_unknown(connection)
    now = patient.clock.now()
    late = timedelta(seconds=patient.settings.reconcile_after_seconds) + _UNKNOWN_LATE
    since = unknown.looked_for_since
    if not unknown.held_because and (since is None or now - since <= late):
        return passed(f"{unknown.count} unknown, none for long" if unknown.count else "no message is unknown")
    advice = "Decide about those held: smsapi messages resolve ID." if unknown.held_because else "Mend what it says."
    return failed(describe_unknown(unknown, now), advice)
