"""What the outcome of a call says of the far side, told to all workers: the circuit and the account.

Both are written in the transaction that settles the attempt, so no process has to be told and none can forget.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, select

from smsapi.clock import rfc3339
from smsapi.db import Database
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, Admitted, close_gate, open_gate, read_gates
from smsapi.pacing.models import gates
from smsapi.pacing.tolls import LIST_TROUBLE
from smsapi.plivo.answers import NO_CREDIT_CODE
from smsapi.plivo.outcomes import NOTHING_ASKED, Accepted, Outcome, Rejected, shows_life
from smsapi.settings import Settings

Trouble = Literal["credentials", "credit"]

_UNAUTHORIZED: Final = 401
_PAYMENT_REQUIRED: Final = 402


def account_trouble(outcome: Outcome) -> Trouble | None:
    """Return why Plivo will refuse every message of the account, or None where it refused none or only this one.

    A country or a feature that is not enabled (403) concerns the messages that need it, not the account.
    """
    if not isinstance(outcome, Rejected) or outcome.kind != "account":
        return None
    if outcome.error_code == NO_CREDIT_CODE or outcome.status == _PAYMENT_REQUIRED:
        return "credit"
    return "credentials" if outcome.status == _UNAUTHORIZED else None


def note_outcome(
    database: Database,
    connection: Connection,
    outcome: Outcome,
    admitted: Admitted,
    *,
    now: datetime,
    settings: Settings,
) -> None:
    """Open or close the circuit and the account as the outcome says.

    A call that began before a gate closed has no news for it: what it met is why the gate closed, or was before that.
    """
    # The account before the circuit: in the order in which the gates are passed, else two could wait for each other.
    if account_trouble(outcome) is not None or ACCOUNT in admitted.probed:
        _note_account(database, connection, outcome, admitted, now=now, settings=settings)
    if shows_life(outcome) is False or CIRCUIT in admitted.watched:
        _note_circuit(database, connection, outcome, admitted, now=now, settings=settings)


def _note_account(
    database: Database,
    connection: Connection,
    outcome: Outcome,
    admitted: Admitted,
    *,
    now: datetime,
    settings: Settings,
) -> None:
    trouble, detail = account_trouble(outcome), _detail(connection, ACCOUNT)
    if detail and ACCOUNT not in admitted.probed:
        return
    if trouble is None and not detail:
        return  # another opened it meanwhile
    if trouble is None and _is_cured(outcome, detail):
        open_gate(connection, ACCOUNT)
        return
    said = {"reason": trouble or detail.get("reason"), "since": detail.get("since", now.isoformat())}
    # A probe that did not get as far as the account has used nothing up: the next caller is the probe.
    at_once = trouble is None and (isinstance(outcome, Rejected) or shows_life(outcome) is None)
    wait = timedelta(seconds=0 if at_once else settings.account_probe_seconds)
    close_gate(database, connection, ACCOUNT, said, opens_at=now + wait)


def _is_cured(outcome: Outcome, detail: Mapping[str, Any]) -> bool:
    if isinstance(outcome, Rejected):
        # It was known who asks. Whether there is credit is not said by a refusal of the number or the country.
        return outcome.status != NOTHING_ASKED and detail.get("reason") == "credentials"
    return isinstance(outcome, Accepted)


def _note_circuit(
    database: Database,
    connection: Connection,
    outcome: Outcome,
    admitted: Admitted,
    *,
    now: datetime,
    settings: Settings,
) -> None:
    alive, probed = shows_life(outcome), CIRCUIT in admitted.probed
    if alive is False:
        # What is not there cannot be held, and of two who count at once one would be lost.
        row = database.insert(gates).values(key=CIRCUIT, opens_at=now, detail={})
        connection.execute(row.on_conflict_do_nothing(index_elements=["key"]))
    detail = _detail(connection, CIRCUIT)
    is_open = bool(detail.get("open"))
    if is_open and not probed:
        return
    if alive:
        open_gate(connection, CIRCUIT)
    elif alive is False:
        failures = int(detail.get("failures", 0)) + 1
        opens = is_open or failures >= settings.breaker_failures
        until = now + timedelta(seconds=settings.breaker_open_seconds) if opens else now
        said = {"failures": failures, "open": opens, "since": detail["since"] if is_open else now.isoformat()}
        close_gate(database, connection, CIRCUIT, said, opens_at=until)
    elif is_open:
        # The probe showed nothing, so the next caller is the probe.
        close_gate(database, connection, CIRCUIT, detail, opens_at=now)


def _detail(connection: Connection, key: str) -> Mapping[str, Any]:
    found = connection.execute(select(gates.c.detail).where(gates.c.key == key).with_for_update()).scalar_one_or_none()
    return found or {}


@dataclass(frozen=True, slots=True)
class ListTrouble:
    """Why Plivo's message list could not be used when it was last asked, and since when (RFC 3339) that is so."""

    reason: str
    since: str


def read_list_trouble(connection: Connection) -> ListTrouble | None:
    """Return what keeps Plivo's message list from being used, or None where nothing is known to."""
    gate = read_gates(connection, [LIST_TROUBLE]).get(LIST_TROUBLE)
    return None if gate is None else ListTrouble(str(gate.detail["reason"]), str(gate.detail["since"]))


def note_list_trouble(database: Database, connection: Connection, reason: str, now: datetime) -> None:
    """Write down why Plivo's message list could not be used; since when that is so stays as it was."""
    before = read_list_trouble(connection)
    since = rfc3339(now) if before is None else before.since
    close_gate(database, connection, LIST_TROUBLE, {"reason": reason, "since": since}, opens_at=now)


def note_list_use(database: Database) -> None:
    """Forget the trouble, where there was any: the list could be used."""
    with database.read() as connection:
        if read_list_trouble(connection) is None:
            return
    with database.transaction() as connection:
        open_gate(connection, LIST_TROUBLE)
