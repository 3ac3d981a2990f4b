"""Numbers that no plan knew were stored without their plus sign; they take the one form that all others have."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from smsapi.db import UtcDateTime
from smsapi.sms.phone import read_provider_number

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ENTRIES = sa.table(
    "opt_outs",
    sa.column("id", sa.Uuid()),
    sa.column("number", sa.Text()),
    sa.column("test", sa.Boolean()),
    sa.column("holds_for", sa.Text()),
    sa.column("client_id", sa.Uuid()),
    sa.column("sender", sa.Text()),
    sa.column("at", UtcDateTime()),
)
_LINES = sa.table("opt_out_log", sa.column("number", sa.Text()), sa.column("sender", sa.Text()))
_INBOUND = sa.table("inbound_messages", sa.column("from_number", sa.Text()), sa.column("to_number", sa.Text()))
_FEWEST_DIGITS = 9


def upgrade() -> None:
    """Write each such number anew; of two entries that become one, the older date stands.

    The release before can go on: it finds none of them either way, since nobody could ask it for such a number.
    """
    connection = op.get_bind()
    for table in (_LINES, _INBOUND):
        for column in table.c:
            for old, new in _renamed(connection, column).items():
                connection.execute(sa.update(table).where(column == old).values({column.name: new}))
    numbers, senders = (_renamed(connection, column) for column in (_ENTRIES.c.number, _ENTRIES.c.sender))
    changed = sa.or_(_ENTRIES.c.number.in_(list(numbers)), _ENTRIES.c.sender.in_(list(senders)))
    for row in connection.execute(sa.select(_ENTRIES).where(changed).order_by(_ENTRIES.c.id)).mappings().all():
        number, sender = numbers.get(row["number"], row["number"]), senders.get(row["sender"], row["sender"])
        client = "*" if row["client_id"] is None else row["client_id"].hex
        _rename_entry(
            connection, dict(row), {"number": number, "sender": sender, "holds_for": f"{client}/{sender or '*'}"}
        )


def downgrade() -> None:
    """Leave them as they are: the release before reads this form, too."""


def _renamed(connection: sa.Connection, column: sa.ColumnClause[Any]) -> Mapping[str, str]:
    # Shorter ones are short codes.
    wanted = sa.and_(column.not_like("+%"), sa.func.length(column) >= _FEWEST_DIGITS)
    written = connection.execute(sa.select(column).where(wanted).distinct()).scalars()
    found = {old: read_provider_number(old) for old in written}
    return {old: new for old, new in found.items() if new is not None}


def _rename_entry(connection: sa.Connection, row: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    entries = _ENTRIES.c
    same = (
        entries.number == values["number"],
        entries.holds_for == values["holds_for"],
        entries.test == row["test"],
        entries.id != row["id"],
    )
    twin = connection.execute(sa.select(_ENTRIES).where(*same)).mappings().first()
    if twin is None:
        connection.execute(sa.update(_ENTRIES).where(entries.id == row["id"]).values(values))
        return
    connection.execute(sa.delete(_ENTRIES).where(entries.id == row["id"]))
    older = min(twin["at"], row["at"])
    connection.execute(sa.update(_ENTRIES).where(entries.id == twin["id"]).values(at=older))
