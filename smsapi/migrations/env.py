"""What alembic runs: all pending steps in one transaction, one migrator at a time."""

from alembic import context
from sqlalchemy import Engine, text

from smsapi.auth import models as _auth  # noqa: F401 - tables register themselves
from smsapi.db import metadata
from smsapi.events import models as _events  # noqa: F401
from smsapi.inbound import models as _inbound  # noqa: F401
from smsapi.messages import models as _messages  # noqa: F401
from smsapi.migrations import compatibility as _compatibility  # noqa: F401
from smsapi.monitoring import models as _monitoring  # noqa: F401
from smsapi.optouts import models as _optouts  # noqa: F401
from smsapi.web import idempotency as _idempotency  # noqa: F401
from smsapi.webhooks import models as _webhooks  # noqa: F401

# Any fixed number, as long as nobody else locks it in this database.
_LOCK = 8_731_402_216


def _run() -> None:
    engine: Engine = context.config.attributes["engine"]
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # A step may take long, and so may waiting for another migrator.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        context.run_migrations()


_run()
