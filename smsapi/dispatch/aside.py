"""Setting aside: a row that cannot be handled is due again later, ever less often, and the others go on meanwhile.

What one process cannot handle another may: a release that knows the value, or the next one, which has the fault mended.
So nothing is lost by it, and nothing is decided about the message but when it is looked at again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, TextClause, func, select, update

from smsapi.clock import rfc3339
from smsapi.db import after_commit
from smsapi.deps import Deps
from smsapi.events.models import events
from smsapi.events.store import record_event
from smsapi.ids import show_id
from smsapi.log import get_logger
from smsapi.messages.models import messages

log = get_logger()

DEFERRED: Final = "message.deferred"

_SOONEST: Final = timedelta(seconds=5)
_LATEST: Final = timedelta(minutes=10)


def set_aside(
    world: Deps, message_id: UUID, error: Exception, *, what: str, still: Sequence[ColumnElement[bool] | TextClause]
) -> None:
    """Let a message be due again later, since ``what`` was to be done with it raised this error.

    The first time that is an event. It waits as long again as it has since then, from 5 seconds to 10 minutes.
    ``still`` are conditions on its row: it is let be where they no longer hold, and so is one that another holds.

    Raises:
        StoreUnavailable: the store does not answer; it is due as it was.

    """
    now = world.clock.now()
    columns = messages.c
    # Two columns and no more: of the others one may be what cannot be read.
    held = select(columns.client_id, columns.test).where(columns.id == message_id, *still)
    said = {"what": what, "message_id": show_id("msg", message_id)}
    with world.database.transaction() as connection:
        row = connection.execute(held.with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return
        since = _since(connection, message_id)
        due = now + min(max(now - (since or now), _SOONEST), _LATEST)
        connection.execute(update(messages).where(columns.id == message_id).values(due_at=due))
        if since is None:
            data: dict[str, Any] = {"reason": "cannot_be_handled", "what": what, "again_at": rfc3339(due)}
            given = {"client_id": row.client_id, "message_id": message_id, "test": row.test}
            record_event(connection, kind=DEFERRED, at=now, data=data, **given)
        after_commit(connection, partial(world.metrics.count_set_aside, what))
        after_commit(connection, partial(log.error, "set_aside", **said, again_at=rfc3339(due), exc_info=error))


def _since(connection: Connection, message_id: UUID) -> datetime | None:
    """Return when the message was set aside for the first time."""
    own = (events.c.message_id == message_id, events.c.type == DEFERRED)
    since: datetime | None = connection.execute(select(func.min(events.c.at)).where(*own)).scalar_one()
    return since
