"""Delivery reports at a rate: signed, reordered and repeated, from many connections, and what they came to."""

import http.client
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy import insert, select

from benchmarks.load import free_port, serving
from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.db import Database
from smsapi.ids import new_id, show_id
from smsapi.messages.models import messages
from smsapi.plivo.simulator.callbacks import signature_headers
from smsapi.receipts.store import receipts
from tests.services import start_postgres

MESSAGES = 1000
PER_SECOND = 1000
SENDERS = 32
LONGEST_WAIT = 60
TOKEN = "the-auth-token"
ENDS = (("delivered", ""), ("undelivered", "30"), ("failed", "300"))


def main() -> None:
    """Tell of each message thrice and twice over what became of it, in any order; print rate, times and states."""
    folder = Path(tempfile.mkdtemp())
    with start_postgres() as server:
        _run(server.url)
    _run(f"sqlite:///{folder}/receipts.db")
    shutil.rmtree(folder)


def _run(url: str) -> None:
    database = Database(url)
    migrations.upgrade(database)
    wanted = _store_messages(database)
    port = free_port()
    environment = {
        "SMSAPI_DATABASE_URL": url,
        "SMSAPI_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SMSAPI_JWT_SECRET": "x" * 32,
        "SMSAPI_PLIVO_URL": "http://127.0.0.1:9",
        "SMSAPI_LOG_LEVEL": "error",
        "PLIVO_AUTH_ID": "MA" + "0" * 18,
        "PLIVO_AUTH_TOKEN": TOKEN,
    }
    reports = _reports(wanted, port)
    with serving([sys.executable, "-m", "smsapi", "serve", "--bind", f"127.0.0.1:{port}"], environment, port):
        since_due, since_asked, statuses, seconds = _tell(reports, port)
        begun = time.perf_counter()
        while _waiting(database) and time.perf_counter() < begun + LONGEST_WAIT:
            time.sleep(0.1)
        applied = time.perf_counter() - begun
    _print(database, wanted, statuses, seconds)
    _print_times("after it was sent", since_asked)
    _print_times("after it was due, with 32 connections", since_due)
    print(f"  all applied {applied:.1f} s after the last was told")
    database.close()


def _waiting(database: Database) -> bool:
    with database.read() as connection:
        return (
            connection.execute(select(receipts.c.id).where(receipts.c.look_at.is_not(None)).limit(1)).first()
            is not None
        )


def _store_messages(database: Database) -> dict:
    now = datetime.now(UTC)
    with database.transaction() as connection:
        client = service.create_client(connection, now, name=f"receipts {now}")
        key, _ = service.issue_key(connection, now, client_id=client.id, name="key", live=True, scopes=SCOPES)
        rows = [_row(client.id, key.id, now) for _ in range(MESSAGES)]
        connection.execute(insert(messages), rows)
    return {row["id"]: random.choice(ENDS) for row in rows}


def _row(client_id, key_id, now) -> dict:
    own = {"id": new_id(), "client_id": client_id, "key_id": key_id, "created_at": now, "updated_at": now}
    fixed = {"test": False, "to_number": "+14155550123", "sender": "+14155550100", "text": "Hello", "status": "sent"}
    counts = {"segments": 1, "attempts": 1, "epoch": 0, "metadata": {}, "price_estimated": True, "sent_at": now}
    return own | fixed | counts | {"category": "transactional", "encoding": "gsm7"}


def _reports(wanted: dict, port: int) -> list:
    """Return the requests: three facts of each message, each told twice, shuffled."""
    made = []
    for message_id, (end, code) in wanted.items():
        path = f"/plivo/status/{show_id('msg', message_id)}"
        for sequence, status in enumerate(("queued", "sent", end), start=1):
            fields = {"Status": status, "MessageUUID": str(message_id), "Sequence": str(sequence), "Units": "1"}
            fields |= {"TotalAmount": "0.00550", "ErrorCode": code if status == end else ""}
            params = {name: [value] for name, value in fields.items()}
            signed = signature_headers(method="POST", url=f"http://127.0.0.1:{port}{path}", token=TOKEN, params=params)
            headers = signed | {"Content-Type": "application/x-www-form-urlencoded"}
            made += [(path, urlencode(fields), headers)] * 2
    random.shuffle(made)
    return made


def _tell(reports: list, port: int) -> tuple:
    """Send them evenly at the rate; a time counts from when a report was due, so that a stall is not hidden."""
    begun, local = time.perf_counter(), threading.local()

    def call(numbered):
        number, (path, body, headers) = numbered
        due = begun + number / PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        asked = time.perf_counter()
        local.connection.request("POST", path, body, headers)
        answer = local.connection.getresponse()
        answer.read()
        answered = time.perf_counter()
        return answered - due, answered - asked, answer.status

    with ThreadPoolExecutor(SENDERS) as threads:
        done = list(threads.map(call, enumerate(reports)))
    seconds = time.perf_counter() - begun
    since_due, since_asked, statuses = zip(*done, strict=True)
    return sorted(since_due), sorted(since_asked), Counter(statuses), seconds


def _print(database: Database, wanted: dict, statuses: Counter, seconds: float) -> None:
    with database.read() as connection:
        query = select(messages.c.id, messages.c.status).where(messages.c.id.in_(list(wanted)))
        found = {row.id: row.status for row in connection.execute(query)}
    right, told = sum(found[message_id] == end for message_id, (end, _) in wanted.items()), sum(statuses.values())
    print(f"receipts on {database.url.get_backend_name()}: {told}, answers {dict(statuses)}")
    print(f"  asked for {PER_SECOND}/s, reached {told / seconds:.0f}/s")
    print(f"  states: {right} right, {len(wanted) - right} wrong")


def _print_times(what: str, times: list) -> None:
    at = {"p50": len(times) // 2, "p99": len(times) * 99 // 100, "max": -1}
    shown = ", ".join(f"{name} {times[place] * 1000:.0f}" for name, place in at.items())
    print(f"  each answered {what}: {shown} ms")


if __name__ == "__main__":
    main()


if __name__ == "__main__":
    main()
