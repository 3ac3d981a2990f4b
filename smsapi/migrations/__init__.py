"""The steps of the schema, inside the package, and the way to run them."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from smsapi.db import Database


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


def is_current(database: Database) -> bool:
    """Say whether the schema is the one that this code was written for."""
    heads = set(ScriptDirectory.from_config(_config(database)).get_heads())
    with database.read() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == heads
