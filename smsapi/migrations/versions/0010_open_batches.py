"""Batches that are open are found by their client, so that what waits of one can be counted at each upload.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_OPEN = sa.text("status IN ('receiving', 'scheduled', 'queued', 'sending')")


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_batches_open", "batches", ["client_id"], postgresql_where=_OPEN, sqlite_where=_OPEN)


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ix_batches_open", table_name="batches", postgresql_where=_OPEN, sqlite_where=_OPEN)
