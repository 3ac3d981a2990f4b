"""The steps of the schema, inside the package, and the way to run them."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from smsapi.db import Database
from smsapi.migrations.compatibility import SchemaState, read_schema_state

__all__ = ["SchemaState", "downgrade", "is_current", "schema_state", "upgrade"]


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", "smsapi:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["engine"] = database.engine
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to this revision; several may try at once, one does it and the others wait."""
    command.upgrade(_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to this revision; what only the later schema can hold is lost."""
    command.downgrade(_config(database), revision)


def schema_state(database: Database) -> SchemaState:
    """Return how the database's schema relates to the one that this version was written for."""
    return read_schema_state(database, ScriptDirectory.from_config(_config(database)))


def is_current(database: Database) -> bool:
    """Return whether the schema is the one that this version was written for."""
    return schema_state(database) is SchemaState.CURRENT
