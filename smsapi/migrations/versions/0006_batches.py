"""Batches: their rows, what was refused of them, and how they stand, counted by the store itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_BY_STORE = {
    "postgresql": (
        """
        CREATE FUNCTION note_batch_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO batch_changes (batch_id, was, now) VALUES (NEW.batch_id, OLD.status, NEW.status);
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER batch_change AFTER UPDATE OF status ON messages FOR EACH ROW
        WHEN (NEW.batch_id IS NOT NULL AND OLD.status <> NEW.status) EXECUTE FUNCTION note_batch_change()
        """,
    ),
    "sqlite": (
        """
        CREATE TRIGGER batch_change AFTER UPDATE OF status ON messages FOR EACH ROW
        WHEN NEW.batch_id IS NOT NULL AND OLD.status <> NEW.status
        BEGIN
            INSERT INTO batch_changes (batch_id, was, now) VALUES (NEW.batch_id, OLD.status, NEW.status);
        END
        """,
    ),
}


def upgrade() -> None:
    """Add the tables, the columns, the indexes and the trigger."""
    _create_batches()
    _create_rows()
    op.add_column("messages", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.add_column("messages", sa.Column("joined", sa.SmallInteger(), nullable=True))
    _partial("ix_messages_batch_id_id", "messages", ["batch_id", "id"], "batch_id IS NOT NULL")
    op.add_column("message_attempts", sa.Column("chunk_id", sa.Uuid(), nullable=True))
    _partial("ix_message_attempts_chunk_id", "message_attempts", ["chunk_id"], "chunk_id IS NOT NULL")
    for statement in _BY_STORE[op.get_bind().dialect.name]:
        op.execute(statement)


def _create_batches() -> None:
    texts = ("sender", "template")
    counts = ("total", "accepted", "rejected", "duplicates", "made", "made_through", "mark_left")
    moments = ("due_at", "expires_at", "send_at", "mark_at", "accepted_at", "started_at", "canceled_at", "finished_at")
    op.create_table(
        "batches",
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in ("id", "client_id", "key_id")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("test", "all_or_nothing", "dry_run")),
        *(sa.Column(name, sa.String(length=16), nullable=False) for name in ("status", "category", "on_unknown")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("dlt", _JSON, nullable=True),
        sa.Column("bounds", _JSON, nullable=True),
        sa.Column("expires_in", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in counts),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=True),
        sa.Column("price_currency", sa.String(length=3), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        *(sa.Column(name, _MOMENT, nullable=False) for name in ("created_at", "heard_at")),
        *(sa.Column(name, _MOMENT, nullable=True) for name in moments),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_batches_client_id_clients")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_batches_key_id_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_client_id_id", "batches", ["client_id", "id"], unique=False)
    _partial("ix_batches_due_at", "batches", ["due_at"], "due_at IS NOT NULL")
    receiving = "status = 'receiving' AND idempotency_key IS NOT NULL"
    _partial("uq_batches_receiving", "batches", ["client_id", "test", "idempotency_key"], receiving, unique=True)


def _create_rows() -> None:
    key = ("batch_id", "row")
    op.create_table(
        "batch_rows",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("encoding", sa.String(length=8), nullable=False),
        sa.Column("segments", sa.SmallInteger(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("joined", sa.SmallInteger(), nullable=True),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_batch_rows")),
    )
    op.create_table(
        "batch_rejects",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_batch_rejects")),
    )
    op.create_table(
        "batch_counts",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "status", name=op.f("pk_batch_counts")),
    )
    op.create_table(
        "batch_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("was", sa.String(length=16), nullable=False),
        sa.Column("now", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_changes")),
    )
    op.create_index("ix_batch_changes_batch_id", "batch_changes", ["batch_id"], unique=False)


def downgrade() -> None:
    """Take them away again; what was made into messages stays."""
    op.execute("DROP TRIGGER batch_change" + (" ON messages" if op.get_bind().dialect.name == "postgresql" else ""))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION note_batch_change()")
    op.drop_index("ix_message_attempts_chunk_id", table_name="message_attempts")
    op.drop_column("message_attempts", "chunk_id")
    op.drop_index("ix_messages_batch_id_id", table_name="messages")
    op.drop_column("messages", "joined")
    op.drop_column("messages", "batch_id")
    for table in ("batch_changes", "batch_counts", "batch_rejects", "batch_rows", "batches"):
        op.drop_table(table)


def _partial(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)
