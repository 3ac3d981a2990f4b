"""What the outcome of a call says of the far side, told to all workers: the circuit and the account.

Both are written in the transaction that settles the attempt, so no process has to be told and none can forget.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, select

from smsapi.db import Database
from smsapi.pacing.gates import ACCOUNT, CIRCUIT, Admitted, close_gate, open_gate
from smsapi.pacing.models import gates
from smsapi.plivo.answers import NO_CREDIT_CODE
from smsapi.plivo.outcomes import Accepted, Outcome, Rejected, shows_life
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
    """Open or close the circuit and the account as the outcome says."""
    # The account before the circuit: in the order in which the gates are passed, else two could wait for each other.
    trouble = account_trouble(outcome)
    if trouble is not None:
        _close_account(database, connection, trouble, now, settings)
    elif ACCOUNT in admitted.watched:
        if isinstance(outcome, Accepted | Rejected):
            open_gate(connection, ACCOUNT)
        else:
            _release_probe(database, connection, now, settings)
    _note_circuit(database, connection, shows_life(outcome), admitted, now=now, settings=settings)


def _note_circuit(
    database: Database,
    connection: Connection,
    alive: bool | None,  # noqa: FBT001 - as shows_life says it
    admitted: Admitted,
    *,
    now: datetime,
    settings: Settings,
) -> None:
    if alive:
        if CIRCUIT in admitted.watched:
            open_gate(connection, CIRCUIT)
        return
    detail = _detail(connection, CIRCUIT)
    probed = bool(detail.get("open")) and CIRCUIT in admitted.watched
    if alive is None:
        if probed:
            # The probe showed nothing, so the next caller is the probe.
            close_gate(database, connection, CIRCUIT, detail, opens_at=now)
        return
    failures = int(detail.get("failures", 0)) + 1
    if detail.get("open") and not probed:
        return  # a call that began before it opened: no news
    opened = probed or failures >= settings.breaker_failures
    until = now + timedelta(seconds=settings.breaker_open_seconds) if opened else now
    since = detail.get("since") if detail.get("open") else now.isoformat()
    close_gate(database, connection, CIRCUIT, {"failures": failures, "open": opened, "since": since}, opens_at=until)


def _close_account(
    database: Database, connection: Connection, trouble: Trouble, now: datetime, settings: Settings
) -> None:
    detail = _detail(connection, ACCOUNT)
    said = {"reason": trouble, "since": detail.get("since", now.isoformat())}
    until = now + timedelta(seconds=settings.account_probe_seconds)
    close_gate(database, connection, ACCOUNT, said, opens_at=until)


def _release_probe(database: Database, connection: Connection, now: datetime, settings: Settings) -> None:
    detail = {name: value for name, value in _detail(connection, ACCOUNT).items() if name != "probe_until"}
    if detail:
        until = now + timedelta(seconds=settings.account_probe_seconds)
        close_gate(database, connection, ACCOUNT, detail, opens_at=until)


def _detail(connection: Connection, key: str) -> Mapping[str, Any]:
    found = connection.execute(select(gates.c.detail).where(gates.c.key == key).with_for_update()).scalar_one_or_none()
    return found or {}
