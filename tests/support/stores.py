"""A store emptied for the next test, in as little time as can be: most tests leave a few rows in a few tables."""

import os
from pathlib import Path

from sqlalchemy import text

from smsapi.db import Database, metadata
from smsapi.errors import StoreUnavailable
from smsapi.migrations.compatibility import schema_compatibility
from tests.services import DURABLE_VARIABLE

# Larger ones are truncated, so that what the dead rows of one test cost is paid by no other.
_SMALL_BYTES = 128 * 1024

_MEMORY = Path("/dev/shm")


def fast_directory() -> Path | None:
    """Return where SQLite files of tests lie: in memory where it can be had, or None for the usual temporary directory.

    A file in memory outlives a killed process as one on disk does; only a crash of the machine would lose it. With
    SMSAPI_TEST_DURABLE=1 they are on disk. Each commit waits for the disk two or three times there, which on a busy
    machine is most of what a test takes.
    """
    if os.environ.get(DURABLE_VARIABLE) == "1" or not os.access(_MEMORY, os.W_OK):
        return None
    return _MEMORY


class PostgresCleaner:
    """Empties a PostgreSQL store; keeps one connection for it, in place of one for each test.

    ``TRUNCATE`` of every table takes some 30 ms, for it makes a new file for each table and index; ``DELETE`` from
    tables that hold a few rows takes 2 ms.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, pool_size=1)
        # Those that refer to others come first.
        kept = {schema_compatibility.name}
        tables = [table.name for table in reversed(metadata.sorted_tables) if table.name not in kept]
        deletes = "".join(f"DELETE FROM {name}; " for name in tables)
        self._empty = text(f"DO $$ BEGIN {deletes} END $$")
        # What ANALYZE found in one test would make another's plans: TRUNCATE makes PostgreSQL forget it.
        self._to_truncate = text(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname = ANY(:tables)"
            " AND (pg_relation_size(oid) > :small OR reltuples >= 0)"
        ).bindparams(tables=tables, small=_SMALL_BYTES)

    def empty(self) -> None:
        """Remove every row."""
        try:
            self._empty_all()
        except StoreUnavailable:  # a test before has ended all connections
            self._empty_all()

    def _empty_all(self) -> None:
        with self._database.transaction() as connection:
            if found := connection.execute(self._to_truncate).scalars().all():
                connection.execute(text(f"TRUNCATE {', '.join(found)} CASCADE"))
            connection.execute(self._empty)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
