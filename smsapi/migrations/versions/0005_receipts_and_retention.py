"""Delivery reports are kept, each once, and personal data is erased when its time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_OPEN = "look_at IS NOT NULL"
_NOT_ERASED = "erased_at IS NULL"


def upgrade() -> None:
    """Add the tables, the column and the indexes."""
    op.create_table(
        "receipts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        *(sa.Column(name, sa.String(length=16), nullable=False) for name in ("source", "state", "said", "fact")),
        sa.Column("provider_uuid", sa.String(length=64), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.String(length=16), nullable=True),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("amount_micros", sa.BigInteger(), nullable=True),
        sa.Column("mcc", sa.String(length=4), nullable=True),
        sa.Column("mnc", sa.String(length=4), nullable=True),
        *(
            sa.Column(name, sa.String(length=26), nullable=True)
            for name in ("message_time", "queued_time", "sent_time", "report_time")
        ),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("applied_at", _MOMENT, nullable=True),
        sa.Column("look_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
        sa.UniqueConstraint("message_id", "fingerprint", name="uq_receipts_message_id_fingerprint"),
    )
    _partial("ix_receipts_look_at", "receipts", ["look_at"], _OPEN)
    op.add_column("messages", sa.Column("erased_at", _MOMENT, nullable=True))
    _partial("ix_messages_not_erased", "messages", ["client_id", "created_at"], _NOT_ERASED)
    op.create_table(
        "client_retention",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_retention_client_id_clients")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_retention")),
    )


def downgrade() -> None:
    """Take them away again; what was erased stays erased."""
    op.drop_table("client_retention")
    op.drop_index("ix_messages_not_erased", table_name="messages")
    op.drop_column("messages", "erased_at")
    op.drop_index("ix_receipts_look_at", table_name="receipts")
    op.drop_table("receipts")


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=False, postgresql_where=where, sqlite_where=where)
