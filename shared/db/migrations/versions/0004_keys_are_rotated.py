"""Keys name what replaced them, and a tenant can be suspended."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("replaced_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "replaced_by")
    op.drop_column("tenants", "suspended_at")
