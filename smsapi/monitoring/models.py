"""The table of the processes that send."""

from sqlalchemy import Column, Integer, String, Table, Text, Uuid

from smsapi.db import UtcDateTime, metadata

workers = Table(
    "workers",
    metadata,
    # Of one run of a process: host and pid come again.
    Column("id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    # Which command it runs: serve, worker or dev.
    Column("role", String(16), nullable=False),
    # Those that send, as SMSAPI_DISPATCH_THREADS counts them.
    Column("threads", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("beat_at", UtcDateTime, nullable=False),
)
