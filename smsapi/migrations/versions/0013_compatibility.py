"""The schema names the oldest version that may use it, so that a deploy need not stop the version before."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# What has been added since is nothing that this one's code has to know.
_USABLE_FROM = "0012"


def upgrade() -> None:
    """Add the table and its one row."""
    table = op.create_table(
        "schema_compatibility",
        sa.Column("usable_from", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("usable_from", name=op.f("pk_schema_compatibility")),
    )
    op.bulk_insert(table, [{"usable_from": _USABLE_FROM}])


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("schema_compatibility")
