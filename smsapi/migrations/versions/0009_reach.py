"""A batch remembers when it last changed; attempts without an id, and what opt-outs say, are found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("opt_out_log", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("batches", sa.Column("stirred_at", sa.DateTime(timezone=True), nullable=True))
    for name, table, columns, condition in _INDEXES:
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Take them away again."""
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("batches", "stirred_at")
    op.drop_column("opt_out_log", "forgotten_at")


_INDEXES = (
    (
        "ix_message_attempts_unnamed",
        "message_attempts",
        ["finished_at"],
        "outcome = 'accepted' AND provider_uuid IS NULL",
    ),
    ("ix_messages_client_id_sender_id", "messages", ["client_id", "sender", "id"], None),
    ("ix_opt_outs_reason", "opt_outs", ["client_id", "at"], "reason IS NOT NULL"),
    ("ix_opt_out_log_words", "opt_out_log", ["client_id", "at"], "forgotten_at IS NULL"),
)
