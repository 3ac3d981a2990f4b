"""An attempt of unknown outcome remembers that it was shown not to have been taken."""

import sqlalchemy as sa
from alembic import op

from smsapi.db import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: nullable, so that the release before still writes its rows."""
    op.add_column("message_attempts", sa.Column("ruled_out_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    """Take it away again."""
    op.drop_column("message_attempts", "ruled_out_at")
