"""``smsapi queue``: what waits and why, holding it back, letting it go on, and waiting until it is done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import click

from smsapi.batches.store import count_unmade
from smsapi.cli.admin import as_json, open_database, print_json
from smsapi.cli.demo import operator_settings
from smsapi.cli.worker_list import HOW_TO_SEND, describe_workers, present_worker
from smsapi.clock import Clock, rfc3339
from smsapi.db import Database
from smsapi.errors import SmsapiError
from smsapi.messages.backlog import LaneBacklog, Unsettled, count_unsettled, measure, oldest_unfinished_at
from smsapi.messages.lanes import MARKETING, NAMES, OTP, TRANSACTIONAL, lane_of, name_of
from smsapi.messages.models import messages
from smsapi.messages.underway import let_begun_end
from smsapi.messages.unknown import UnknownMessages, read_unknown
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, PAUSE, Gate, close_gate, open_gate, read_gates, read_stops
from smsapi.pacing.tolls import ACCOUNT_SEGMENTS, REQUESTS, SENDER_PREFIX, tolls_of
from smsapi.settings import Settings
from smsapi.timekeeping import set_clock_of
from smsapi.workers.store import WorkerProcess, list_workers

# Messages of test keys pass no gate: nobody is texted.
_LANES: Final = tuple(NAMES[lane] for lane in (OTP, TRANSACTIONAL, MARKETING))
# A sender of each kind that has a pace of its own.
_SENDERS: Final = {
    "long_code": "+14155550100",
    "toll_free": "+18005550100",
    "short_code": "12345",
    "alphanumeric": "ACME",
}
_MAX_REASON_CHARACTERS: Final = 200
_LOOK_SECONDS: Final = 1.0

lane_option = click.option("--lane", type=click.Choice(_LANES), help="Only this lane. Without it: all of them.")


@click.group()
def queue() -> None:
    """Look at what waits, hold it back, let it go on."""


@queue.command("status")
@as_json
def status(*, as_json: bool) -> None:
    """Say what waits in each lane and for how long, who sends, what is stopped and why, and the paces.

    Later is what is not due yet: scheduled, or between two attempts. Exit code 1 where something is due and no process
    that sends is alive.
    """
    paces = paces_of(operator_settings())
    with open_database() as store:
        found = _read_standing(store)
    if as_json:
        print_json(_present_standing(found, paces))
    else:
        for line in _describe_standing(found, paces):
            click.echo(line)
    if (found.due or found.unfinished_at) and not any(each.is_alive(found.at) for each in found.processes):
        what = f"{found.due} due" if found.due else "Messages were begun and not finished"
        raise SmsapiError(f"{what}, and no process that sends is alive. {HOW_TO_SEND}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """How the queue stands as of ``at``; ``unmade`` counts the due rows of batches that are not messages yet."""

    at: datetime
    lanes: Mapping[int, LaneBacklog]
    unmade: int
    unfinished_at: datetime | None
    unsettled: Unsettled
    unknown: UnknownMessages
    stops: Sequence[Gate]
    processes: Sequence[WorkerProcess]

    @property
    def due(self) -> int:
        return self.unmade + sum(backlog.waiting for backlog in self.lanes.values())


def _read_standing(store: Database) -> _Standing:
    now = set_clock_of(store).now()
    with store.read() as connection:
        return _Standing(
            at=now,
            lanes=measure(connection, now),
            unmade=count_unmade(connection, now),
            unfinished_at=oldest_unfinished_at(connection, now),
            unsettled=count_unsettled(connection, now),
            unknown=read_unknown(connection),
            stops=read_stops(connection),
            processes=list_workers(connection),
        )


def _present_standing(found: _Standing, paces: Mapping[str, float]) -> dict[str, Any]:
    return {
        "at": rfc3339(found.at),
        "lanes": {name_of(lane): _present_lane(backlog, found.at) for lane, backlog in found.lanes.items()},
        "batch_rows": found.unmade,
        "sending": found.unsettled.sending,
        "unknown": found.unsettled.in_doubt + found.unsettled.held,
        "held": found.unsettled.held,
        "unknown_because": _present_unknown(found.unknown, found.at),
        "stops": [_present_stop(gate) for gate in found.stops],
        "paces": paces,
        "workers": [present_worker(each, found.at) for each in found.processes],
    }


def _describe_standing(found: _Standing, paces: Mapping[str, float]) -> Iterator[str]:
    yield from _table(found.lanes, found.at)
    if found.unmade:
        yield f"Rows of batches that are due and not messages yet: {found.unmade}."
    yield _underway(found.unsettled)
    if why := describe_unknown(found.unknown, found.at):
        yield why
    yield from map(describe_stop, found.stops)
    yield _describe_paces(paces)
    yield from (f"Process: {said}." for said in describe_workers(found.processes, found.at))


def _reason(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    # What is not printable includes what the shell passed on that is no UTF-8.
    if value is not None and not (1 <= len(value) <= _MAX_REASON_CHARACTERS and value.isprintable()):
        raise click.BadParameter(f"must be 1 to {_MAX_REASON_CHARACTERS} printable characters")
    return value


@queue.command("pause")
@lane_option
@click.option("--reason", callback=_reason, help="Why, for whoever looks next.")
def pause(*, lane: str | None, reason: str | None) -> None:
    """Hold messages back, in every process and at once, until they are resumed.

    They are still taken: a caller who waits gets 202. What is in a call to Plivo already is sent, and is waited for,
    two seconds at most: once this command is done, no further call begins. Messages of test keys are not held.
    """
    key, lease = _pause_of(lane), operator_settings().lease_seconds
    with open_database() as store:
        clock = set_clock_of(store)
        with store.transaction() as connection:
            before = read_gates(connection, [key]).get(key)
            fresh = {"since": rfc3339(clock.now()), "by": "operator", "reason": reason}
            detail = fresh if before is None else before.detail
            if before is None or reason is not None:
                close_gate(store, connection, key, {**detail, "reason": reason})
        of_lane = () if lane is None else (messages.c.lane == lane_of(lane, test=False),)
        let_begun_end(store, clock, *of_lane, lease_seconds=lease)
    if before is not None:
        click.echo(f"{_subject(lane)} was paused already, since {before.detail.get('since', 'some time')}.")
        return
    click.echo(f"Paused {_object(lane)}. To go on: {_resuming(key)}")


@queue.command("resume")
@lane_option
def resume(*, lane: str | None) -> None:
    """Let messages go on that were paused. A lane that was paused by itself is resumed by itself."""
    key = _pause_of(lane)
    with open_database() as store, store.transaction() as connection:
        was_closed = open_gate(connection, key)
        left = read_stops(connection)
    click.echo(f"Resumed {_object(lane)}." if was_closed else f"{_subject(lane)} was not paused.")
    for gate in left:
        click.echo(describe_stop(gate))


@queue.command("drain")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0, 86400),
    default=300.0,
    show_default=True,
    help="Seconds to wait.",
)
def wait_until_drained(*, timeout_seconds: float) -> None:
    """Wait until nothing is due or being sent any more; exit code 1 where that takes too long.

    What is scheduled for later does not count, nor what is unknown and waits for a person.
    """
    with open_database() as store:
        left = drain(store, set_clock_of(store), timeout_seconds=timeout_seconds, tell=_tell)
        with store.read() as connection:
            stops = [describe_stop(gate) for gate in read_stops(connection)]
    if left.remaining:
        raise SmsapiError("\n".join([f"After {timeout_seconds:g} s there is left: {_of(left)}.", *stops]))
    click.echo("Nothing is due or being sent any more.")


def drain(database: Database, clock: Clock, *, timeout_seconds: float, tell: Callable[[Unsettled], None]) -> Unsettled:
    """Wait until nothing remains, or until the time is over; return how it stands then.

    ``tell`` is told of what remains, at most once a second. Raises :class:`~smsapi.errors.StoreUnavailable`.
    """
    until = clock.now() + timedelta(seconds=timeout_seconds)
    while True:
        now = clock.now()
        with database.read() as connection:
            found = count_unsettled(connection, now)
            found = replace(found, waiting=found.waiting + count_unmade(connection, now))
        if found.remaining == 0 or now >= until:
            return found
        tell(found)
        clock.sleep(min(_LOOK_SECONDS, (until - now).total_seconds()))


def _tell(left: Unsettled) -> None:
    click.echo(f"{_of(left)} …", err=True)


def _of(left: Unsettled) -> str:
    return f"{left.waiting} waiting, {left.sending} being sent, {left.in_doubt} unknown"


def _pause_of(lane: str | None) -> str:
    return PAUSE if lane is None else f"{PAUSE}:{lane}"


def _subject(lane: str | None) -> str:
    return "The queue" if lane is None else f"The lane {lane}"


def _object(lane: str | None) -> str:
    return "the queue" if lane is None else f"the lane {lane}"


def _resuming(key: str) -> str:
    lane = key.partition(":")[2]
    return f"smsapi queue resume --lane {lane}" if lane else "smsapi queue resume"


def describe_stop(gate: Gate) -> str:
    """Return a sentence that says what a closed gate stops, why, since when, and when it may end."""
    detail = gate.detail
    since = f"since {detail['since']}" if detail.get("since") else "since some time ago"
    tries = "" if gate.opens_at is None else f" The next try is at {rfc3339(gate.opens_at)}."
    if gate.key == CIRCUIT:
        return f"Stopped: Plivo fails (calls in a row: {detail.get('failures', 'many')}), {since}.{tries}"
    if gate.key == ACCOUNT:
        trouble = {"credit": "is out of credit", "credentials": "or its credentials are refused"}
        what = trouble.get(str(detail.get("reason")), "is refused")
        return f"Stopped: the account at Plivo {what}, {since}.{tries}"
    subject = _object(gate.key.partition(":")[2] or None)
    reason = f" ({detail['reason']})" if detail.get("reason") else ""
    return f"Paused: {subject}, {since}, by {detail.get('by', 'somebody')}{reason}. To go on: {_resuming(gate.key)}"


def describe_unknown(unknown: UnknownMessages, now: datetime) -> str:
    """Return sentences that say how long messages have been unknown and why; empty where none is."""
    if unknown.oldest_at is None:
        return ""
    said = [f"The oldest unknown message is so since {rfc3339(unknown.oldest_at)} ({_age(unknown, now):.0f} s)."]
    if unknown.trouble is not None:
        said.append(f"{unknown.trouble.reason}, since {unknown.trouble.since}.")
    said += [f"Held for a person: {count} ({reason})." for reason, count in unknown.held_because.items()]
    return " ".join(said)


def _age(unknown: UnknownMessages, now: datetime) -> float:
    return 0.0 if unknown.oldest_at is None else max(0.0, (now - unknown.oldest_at).total_seconds())


def _present_unknown(unknown: UnknownMessages, now: datetime) -> dict[str, Any]:
    trouble = unknown.trouble
    return {
        "oldest_seconds": round(_age(unknown, now), 3),
        "list": None if trouble is None else {"reason": trouble.reason, "since": trouble.since},
        "held": dict(unknown.held_because),
    }


def _present_stop(gate: Gate) -> dict[str, Any]:
    return {
        "gate": gate.key,
        "reason": gate.detail.get("reason"),
        "since": gate.detail.get("since"),
        "opens_at": None if gate.opens_at is None else rfc3339(gate.opens_at),
    }


def paces_of(settings: Settings) -> Mapping[str, float]:
    """Return the paces in force: segments a second of the account and of a sender by its kind, requests a second.

    0 is no pace.
    """
    rates: dict[str, float] = {}
    for kind, sender in _SENDERS.items():
        tolls = {toll.key: toll.per_second for toll in tolls_of(settings, sender, 1)}
        rates[kind] = tolls.get(f"{SENDER_PREFIX}{sender}", 0.0)
        rates |= {"account": tolls.get(ACCOUNT_SEGMENTS, 0.0), "requests": tolls.get(REQUESTS, 0.0)}
    return {name: rates[name] for name in ("account", *_SENDERS, "requests")}


def _describe_paces(paces: Mapping[str, float]) -> str:
    shown = {name: f"{rate:g}" if rate else "none" for name, rate in paces.items()}
    kinds = ", ".join(f"{name.replace('_', ' ')} {rate}" for name, rate in shown.items() if name != "requests")
    return f"Paces in segments a second: {kinds}. Requests a second: {shown['requests']}."


def _present_lane(backlog: LaneBacklog, now: datetime) -> dict[str, Any]:
    return {
        "waiting": backlog.waiting,
        "oldest_due_at": None if backlog.oldest_due_at is None else rfc3339(backlog.oldest_due_at),
        "oldest_seconds": round(backlog.age_seconds(now), 3),
        "later": backlog.later,
    }


def _table(lanes: Mapping[int, LaneBacklog], now: datetime) -> Sequence[str]:
    rows = [("lane", "waiting", "oldest", "later")]
    for lane, backlog in lanes.items():
        oldest = f"{backlog.age_seconds(now):.0f} s" if backlog.waiting else "-"
        rows.append((name_of(lane), str(backlog.waiting), oldest, str(backlog.later)))
    return [f"{name:<15}{waiting:>9}{oldest:>12}{later:>9}" for name, waiting, oldest, later in rows]


def _underway(unsettled: Unsettled) -> str:
    doubts = f"{unsettled.in_doubt} to be looked into, {unsettled.held} held for a person"
    return f"Being sent: {unsettled.sending}. Unknown: {unsettled.in_doubt + unsettled.held} ({doubts})."
