"""Clients delete datasets with all that lies in them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("delete_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("datasets_to_delete", "datasets", ["id"], postgresql_where=sa.text("delete_asked_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("datasets_to_delete", table_name="datasets")
    op.drop_column("datasets", "delete_asked_at")
