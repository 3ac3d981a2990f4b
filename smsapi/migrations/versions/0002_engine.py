"""What the engine needs: times to send at, lanes, clients' shares, and the gates that all workers share."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_WAITS = "status IN ('queued', 'scheduled') AND due_at IS NOT NULL"
_CHORE = "status NOT IN ('queued', 'scheduled') AND due_at IS NOT NULL"


def upgrade() -> None:
    """Add the columns, the indexes and the table."""
    op.add_column("clients", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("messages", sa.Column("send_at", _MOMENT, nullable=True))
    op.add_column("messages", sa.Column("lane", sa.SmallInteger(), nullable=False, server_default="1"))
    op.add_column("messages", sa.Column("on_unknown", sa.String(length=16), nullable=False, server_default="reconcile"))
    op.add_column("messages", sa.Column("bounds", _JSON, nullable=True))
    op.drop_index("ix_messages_due_at", table_name="messages")
    _partial("ix_messages_waiting", ["lane", "client_id", "sender", "due_at", "id"], _WAITS)
    _partial("ix_messages_chores", ["due_at"], _CHORE)
    _partial("ix_messages_provider_uuid", ["provider_uuid"], "provider_uuid IS NOT NULL")
    _partial("ix_messages_unknown", ["sender", "to_number"], "status = 'unknown'")
    op.create_table(
        "gates",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("opens_at", _MOMENT, nullable=True),
        sa.Column("detail", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_gates")),
    )


def downgrade() -> None:
    """Take them away again; what is scheduled would be sent at once, so it is refused while anything is."""
    scheduled = op.get_bind().execute(sa.text("SELECT 1 FROM messages WHERE status = 'scheduled' LIMIT 1")).first()
    if scheduled is not None:
        raise RuntimeError("Messages are scheduled, which the earlier schema cannot hold. Cancel them first.")
    op.drop_table("gates")
    for name in ("unknown", "provider_uuid", "chores", "waiting"):
        op.drop_index(f"ix_messages_{name}", table_name="messages")
    _partial("ix_messages_due_at", ["due_at"], "due_at IS NOT NULL")
    for name in ("bounds", "on_unknown", "lane", "send_at"):
        op.drop_column("messages", name)
    op.drop_column("clients", "weight")


def _partial(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "messages", columns, unique=False, postgresql_where=where, sqlite_where=where)
