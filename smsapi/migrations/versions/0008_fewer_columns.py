"""A report remembers the call that it is about, a client its days of retention; what follows from others is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns, carry the days over, and take away what they stand in for or what is derived."""
    op.add_column("receipts", sa.Column("chunk_id", sa.Uuid(), nullable=True))
    op.add_column("clients", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.execute("UPDATE clients SET retention_days = (SELECT days FROM client_retention WHERE client_id = clients.id)")
    op.drop_table("client_retention")
    op.drop_column("batches", "total")
    op.drop_column("batches", "expires_in")


def downgrade() -> None:
    """Take the two away again, and bring back what was there."""
    op.add_column("batches", sa.Column("expires_in", sa.Integer(), nullable=True))
    op.add_column("batches", sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE batches SET total = accepted + rejected + duplicates")
    op.create_table(
        "client_retention",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_retention_client_id_clients")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_retention")),
    )
    op.execute(
        "INSERT INTO client_retention (client_id, days) "
        "SELECT id, retention_days FROM clients WHERE retention_days IS NOT NULL"
    )
    op.drop_column("clients", "retention_days")
    op.drop_column("receipts", "chunk_id")
