"""Compatibility of versions with the schema: it names the oldest one that may use it, for those before its steps."""

from enum import Enum
from typing import Final

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Table, Text, inspect, select

from smsapi.db import Database, metadata

# One row. A step that only adds what older versions need not know leaves it alone; any other writes its own revision.
schema_compatibility: Final = Table(
    "schema_compatibility",
    metadata,
    Column("usable_from", Text, primary_key=True),
)


class SchemaState(Enum):
    """How the schema of a database relates to the one that this version was written for."""

    CURRENT = "current"
    #: A later version's, which says that this version may use it.
    NEWER_AND_USABLE = "newer, and usable"
    NEWER = "newer"
    #: An earlier version's, or none at all.
    OLDER = "older"

    @property
    def is_usable(self) -> bool:
        """Return whether this version may work on such a schema."""
        return self in {SchemaState.CURRENT, SchemaState.NEWER_AND_USABLE}

    @property
    def is_own(self) -> bool:
        """Return whether it is the one that this version was written for."""
        return self is SchemaState.CURRENT


def read_schema_state(database: Database, scripts: ScriptDirectory) -> SchemaState:
    """Return how the schema of this database stands to the steps that this version knows."""
    known = {step.revision for step in scripts.walk_revisions()}
    with database.read() as connection:
        found = set(MigrationContext.configure(connection).get_current_heads())
        if found == set(scripts.get_heads()):
            return SchemaState.CURRENT
        if found <= known:
            return SchemaState.OLDER
        if not inspect(connection).has_table(schema_compatibility.name):
            return SchemaState.NEWER
        usable_from = connection.execute(select(schema_compatibility.c.usable_from)).scalar_one_or_none()
    return SchemaState.NEWER_AND_USABLE if usable_from in known else SchemaState.NEWER
