"""The gates on the way to Plivo, rows that all workers share: each passes in one transaction or waits outside.

``pause`` and ``pause:<lane>`` are an operator's. ``circuit`` counts calls that failed in a row and keeps everybody
away once they are many; ``account`` does so while Plivo refuses the account itself. After its time either lets a
single probe through, whose outcome decides (:mod:`smsapi.pacing.health`). ``pace:…`` are passed by paying a toll. A row
that is not there is an open gate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Row, Update, bindparam, case, delete, exists, select, update

from smsapi.db import Database
from smsapi.pacing.models import gates
from smsapi.pacing.tolls import Toll

PAUSE: Final = "pause"
CIRCUIT: Final = "circuit"
ACCOUNT: Final = "account"

_PROBED = (ACCOUNT, CIRCUIT)
# No setting closes a stop for longer; one that says so was closed under a clock that has been set back since.
_LONGEST_STOP = timedelta(hours=1)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Leave to make one call. ``watched`` are the gates that its outcome has news for.

    Of those in ``probed`` it is the probe: only its outcome, or that of a later probe, opens them.
    """

    watched: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Closed:
    """No call now. ``opens_at`` is when asking again makes sense; None: when somebody opens it."""

    key: str
    opens_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gate:
    """One row, as it stands."""

    key: str
    opens_at: datetime | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Passing:
    """Who wants to pass: in which lane, at what tolls, and whether a caller waits for the outcome.

    A waiting caller may be the probe of an account before its time: its message is spent on an answer, not lost.
    """

    lane: str
    tolls: Sequence[Toll]
    caller_waits: bool = False

    @property
    def pauses(self) -> tuple[str, str]:
        """Return the keys of the gates by which an operator holds it back."""
        return (PAUSE, f"{PAUSE}:{self.lane}")


def admit(
    database: Database, connection: Connection, passing: Passing, now: datetime, *, probe_seconds: float
) -> Admitted | Closed:
    """Pass all gates, or none and say which is closed.

    It holds the paces until the transaction ends, and the circuit and the account only where this call is their probe.
    A pause is looked for once more when the paces are held, for which it may have had to wait.
    """
    found = _found(connection, passing)
    closed = _closed(found, passing, now)
    if closed is None and any(toll.key not in found for toll in passing.tolls):
        found |= _made(database, connection, [toll.key for toll in passing.tolls])
        closed = _closed(found, passing, now)
    if closed is None and (shut := [key for key in _PROBED if _is_shut(found.get(key))]):
        free = _free(connection, shut)
        found |= free
        # What another holds is that one's to probe, to close or to open: how it stands then is to be asked anew.
        closed = next((Closed(key, now) for key in shut if key not in free), None) or _closed(found, passing, now)
    if closed is not None:
        return closed
    if not _pay(connection, passing.tolls, found, now, pauses=passing.pauses):
        # A pause that came while this one waited for the paces: nothing was paid.
        return _closed(_found(connection, passing), passing, now) or Closed(PAUSE, now)
    return _admitted(connection, found, now + timedelta(seconds=probe_seconds))


def pay(database: Database, connection: Connection, tolls: Sequence[Toll], now: datetime) -> Closed | None:
    """Pass these paces, all or none, whatever else is closed; return the closed one where there is one."""
    keys = [toll.key for toll in tolls]
    found = _held(connection, keys)
    if len(found) < len(keys):
        found = _made(database, connection, keys)
    late = _latest(tolls, found, now)
    if late is not None:
        return late
    _pay(connection, tolls, found, now)
    return None


def pay_or_wait(database: Database, tolls: Sequence[Toll], now: datetime) -> timedelta:
    """Pass these paces in a transaction of their own and return no time, or pass none and return how long to wait."""
    with database.transaction() as connection:
        closed = pay(database, connection, tolls, now)
    return timedelta(0) if closed is None or closed.opens_at is None else closed.opens_at - now


def is_paused(connection: Connection, lane: str) -> bool:
    """Say whether an operator holds this lane back."""
    query = select(gates.c.key).where(gates.c.key.in_((PAUSE, f"{PAUSE}:{lane}")))
    return connection.execute(query).first() is not None


def read_stops(connection: Connection) -> Sequence[Gate]:
    """Return every gate but the paces that is closed, and keeps messages back; one whose probe is out does, too."""
    query = select(gates).where(gates.c.key.not_like("pace:%")).order_by(gates.c.key)
    found = [Gate(row.key, row.opens_at, row.detail) for row in connection.execute(query)]
    return [gate for gate in found if gate.key != CIRCUIT or gate.detail.get("open")]


def read_gates(connection: Connection, keys: Iterable[str]) -> Mapping[str, Gate]:
    """Return those of these gates that are there."""
    query = select(gates).where(gates.c.key.in_(list(keys)))
    return {row.key: Gate(row.key, row.opens_at, row.detail) for row in connection.execute(query)}


def close_gate(
    database: Database, connection: Connection, key: str, detail: Mapping[str, Any], *, opens_at: datetime | None = None
) -> None:
    """Close a gate, until ``opens_at`` or until somebody opens it; one that is closed is closed anew."""
    values = {"opens_at": opens_at, "detail": dict(detail)}
    statement = database.insert(gates).values(key=key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))


def open_gate(connection: Connection, key: str) -> bool:
    """Open a gate; return whether it was closed."""
    return connection.execute(delete(gates).where(gates.c.key == key)).rowcount > 0


# In the order of the keys, so that no two can wait for each other.
_HELD = select(gates).where(gates.c.key.in_(bindparam("keys", expanding=True))).order_by(gates.c.key).with_for_update()


def _held(connection: Connection, keys: Sequence[str]) -> dict[str, Row[Any]]:
    return {row.key: row for row in connection.execute(_HELD, {"keys": list(keys)})}


# What stops is only read. A stop comes and goes while a transaction that passes one message after another holds the
# paces; were it held as well, one would hold paces and wait for it, another hold it and wait for paces. The probe
# alone holds it, and does not wait for it.
_PACES = _HELD.cte("paces")
_FOUND = select(_PACES).union_all(select(gates).where(gates.c.key.in_(bindparam("stops", expanding=True))))


def _found(connection: Connection, passing: Passing) -> dict[str, Row[Any]]:
    stops = [*_PROBED, *passing.pauses]
    given = {"keys": [toll.key for toll in passing.tolls], "stops": stops}
    return {row.key: row for row in connection.execute(_FOUND, given)}


_FREE = select(gates).where(gates.c.key.in_(bindparam("keys", expanding=True))).with_for_update(skip_locked=True)


def _free(connection: Connection, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """Hold those of these gates that nobody else does."""
    return {row.key: row for row in connection.execute(_FREE, {"keys": list(keys)})}


def _is_shut(row: Row[Any] | None) -> bool:
    """Say whether this gate, the circuit or the account, lets nobody but a probe through; not the count of failures."""
    return row is not None and (row.key == ACCOUNT or bool(row.detail.get("open")))


def _made(database: Database, connection: Connection, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """Make those of these paces that are not there, and hold all."""
    for key in keys:
        row = database.insert(gates).values(key=key, opens_at=_LONG_AGO, detail={})
        # Not DO NOTHING, which does not hold what is there: a key that is made by now has to be held before a later one
        # is made, or one waits for what another has made, and that one for what the first holds.
        same = {"opens_at": gates.c.opens_at}
        connection.execute(row.on_conflict_do_update(index_elements=["key"], set_=same))
    return _held(connection, keys)


def _closed(found: Mapping[str, Row[Any]], passing: Passing, now: datetime) -> Closed | None:
    for key in passing.pauses:
        if key in found:
            return Closed(key, None)
    circuit, account = found.get(CIRCUIT), found.get(ACCOUNT)
    if circuit is not None and circuit.detail.get("open") and _is_ahead(circuit.opens_at, now):
        return Closed(CIRCUIT, circuit.opens_at)
    if account is not None:
        probing = _probe_until(account)
        if probing is not None and _is_ahead(probing, now):
            return Closed(ACCOUNT, max(probing, account.opens_at))
        if _is_ahead(account.opens_at, now) and not passing.caller_waits:
            return Closed(ACCOUNT, account.opens_at)
    return _latest(passing.tolls, found, now)


def _is_ahead(opens_at: datetime, now: datetime) -> bool:
    return timedelta(0) < opens_at - now <= _LONGEST_STOP


def _latest(tolls: Sequence[Toll], found: Mapping[str, Row[Any]], now: datetime) -> Closed | None:
    """Return the pace of these that opens last, where any is closed."""
    openings = [(toll.opening(found[toll.key].opens_at, now), toll.key) for toll in tolls if toll.key in found]
    opens_at, key = max(openings, key=lambda opening: opening[0], default=(now, ""))
    return Closed(key, opens_at) if opens_at > now else None


def _probe_until(row: Row[Any]) -> datetime | None:
    said = row.detail.get("probe_until")
    return None if said is None else datetime.fromisoformat(said)


def _pay(
    connection: Connection,
    tolls: Sequence[Toll],
    found: Mapping[str, Row[Any]],
    now: datetime,
    *,
    pauses: Sequence[str] = (),
) -> bool:
    """Pass these paces, all of them held, or none where one of the pauses is there by now; say which."""
    if not tolls:
        return True
    given: dict[str, Any] = {"pauses": list(pauses)}
    for place, toll in enumerate(tolls):
        given |= {f"key_{place}": toll.key, f"then_{place}": toll.next_opening(found[toll.key].opens_at, now)}
    return connection.execute(_payment(len(tolls)), given).rowcount == len(tolls)


@cache
def _payment(paces: int) -> Update:
    # One statement for all, which sees every pause that was committed before it.
    keys = [bindparam(f"key_{place}", type_=gates.c.key.type) for place in range(paces)]
    thens = [bindparam(f"then_{place}", type_=gates.c.opens_at.type) for place in range(paces)]
    stop = gates.alias("stop")
    paused = exists().where(stop.c.key.in_(bindparam("pauses", expanding=True)))
    then = case(*((gates.c.key == key, moment) for key, moment in zip(keys, thens, strict=True)))
    return update(gates).where(gates.c.key.in_(keys), ~paused).values(opens_at=then)


def _admitted(connection: Connection, found: Mapping[str, Row[Any]], until: datetime) -> Admitted:
    """Return the leave, and keep others out of what it probes ``until`` then: a probe may never be heard of again."""
    watched = [found[key] for key in _PROBED if key in found]
    probed = [row for row in watched if _is_shut(row)]
    for row in probed:
        values: dict[str, Any] = {"opens_at": until}
        if row.key == ACCOUNT:
            # Its time stands beside: callers who wait may be the probe before it.
            values = {"detail": {**row.detail, "probe_until": until.isoformat()}}
        connection.execute(update(gates).where(gates.c.key == row.key).values(values))
    return Admitted(frozenset(row.key for row in watched), frozenset(row.key for row in probed))
