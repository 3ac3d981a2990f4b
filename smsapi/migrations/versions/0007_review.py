"""Events are ordered by time, inbound texts are erased when theirs is over, and more is found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, the table and the indexes."""
    op.add_column("events", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "event_marks",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "test", name=op.f("pk_event_marks")),
    )
    op.drop_index("ix_events_message_id_id", table_name="events")
    _partial("ix_events_message_id_at_id", "events", ["message_id", "at", "id"], "message_id IS NOT NULL")
    op.drop_index("ix_events_seq", table_name="events")
    _partial("ix_events_seq", "events", ["seq"], "seq IS NOT NULL", unique=True)
    op.drop_index("ix_events_unnumbered", table_name="events")
    _partial("ix_events_unnumbered", "events", ["at", "id"], "seq IS NULL")
    is_test = "test" if op.get_bind().dialect.name == "postgresql" else "test = 1"
    _partial("ix_events_test", "events", ["client_id", "seq"], is_test)
    _partial("ix_events_not_erased", "events", ["client_id", "at"], "message_id IS NULL AND erased_at IS NULL")
    _partial("ix_inbound_messages_not_erased", "inbound_messages", ["client_id", "received_at"], "from_number <> ''")
    _partial("ix_idempotency_keys_subject_id", "idempotency_keys", ["subject_id"], "subject_id IS NOT NULL")
    for table in ("message_attempts", "receipts"):
        _partial(f"ix_{table}_provider_uuid", table, ["provider_uuid"], "provider_uuid IS NOT NULL")


def downgrade() -> None:
    """Take them away again."""
    for table in ("message_attempts", "receipts"):
        op.drop_index(f"ix_{table}_provider_uuid", table_name=table)
    op.drop_index("ix_idempotency_keys_subject_id", table_name="idempotency_keys")
    op.drop_index("ix_inbound_messages_not_erased", table_name="inbound_messages")
    op.drop_index("ix_events_not_erased", table_name="events")
    op.drop_index("ix_events_test", table_name="events")
    op.drop_index("ix_events_unnumbered", table_name="events")
    _partial("ix_events_unnumbered", "events", ["id"], "seq IS NULL")
    op.drop_index("ix_events_seq", table_name="events")
    op.create_index("ix_events_seq", "events", ["seq"], unique=True)
    op.drop_index("ix_events_message_id_at_id", table_name="events")
    op.create_index("ix_events_message_id_id", "events", ["message_id", "id"], unique=False)
    op.drop_table("event_marks")
    op.drop_column("events", "erased_at")


def _partial(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)
