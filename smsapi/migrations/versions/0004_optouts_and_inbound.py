"""Who is opted out, the trail that proves it, and the texts that people sent us."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables, and find messages by their recipient alone."""
    op.add_column("clients", sa.Column("optout_keywords", _JSON, nullable=True))
    op.create_index("ix_messages_to_number_id", "messages", ["to_number", "id"], unique=False)
    _create_ledger()
    _create_trail()
    _create_inbound()


def downgrade() -> None:
    """Take them away again; refused while anybody is opted out, who would be texted again."""
    if op.get_bind().execute(sa.text("SELECT 1 FROM opt_outs LIMIT 1")).first() is not None:
        raise RuntimeError("Numbers are opted out, which the earlier schema cannot hold. Export them first.")
    for name in ("inbound_messages", "opt_out_log", "opt_outs"):
        op.drop_table(name)
    op.drop_index("ix_messages_to_number_id", table_name="messages")
    op.drop_column("clients", "optout_keywords")


def _create_ledger() -> None:
    op.create_table(
        "opt_outs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("holds_for", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_opt_outs_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opt_outs")),
    )
    op.create_index("ix_opt_outs_number_test_holds_for", "opt_outs", ["number", "test", "holds_for"], unique=True)
    op.create_index("ix_opt_outs_client_id_id", "opt_outs", ["client_id", "id"], unique=False)
    op.create_index("ix_opt_outs_sender_id", "opt_outs", ["sender", "id"], unique=False)


def _create_trail() -> None:
    op.create_table(
        "opt_out_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("evidence", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_opt_out_log_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opt_out_log")),
    )
    op.create_index("ix_opt_out_log_number_id", "opt_out_log", ["number", "id"], unique=False)


def _create_inbound() -> None:
    op.create_table(
        "inbound_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider_uuid", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("intent", sa.String(length=16), nullable=True),
        sa.Column("segments", sa.Integer(), nullable=True),
        sa.Column("media", _JSON, nullable=False),
        sa.Column("powerpack_uuid", sa.String(length=64), nullable=True),
        sa.Column("extra", _JSON, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_inbound_messages_client_id")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_inbound_messages_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbound_messages")),
    )
    table = "inbound_messages"
    op.create_index("ix_inbound_messages_provider_uuid", table, ["provider_uuid"], unique=True)
    op.create_index("ix_inbound_messages_client_id_id", table, ["client_id", "id"], unique=False)
    op.create_index("ix_inbound_messages_from_number_id", table, ["from_number", "id"], unique=False)
