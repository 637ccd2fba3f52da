"""Failed chunks are redriven, in rounds, or dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("chunks", sa.Column("round", sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("chunks", sa.Column("redrive_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("chunks", sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("chunks_failed", "chunks", ["id"], postgresql_where=sa.text("state = 'failed'"))


def downgrade() -> None:
    op.drop_index("chunks_failed", table_name="chunks")
    op.drop_column("chunks", "dropped_at")
    op.drop_column("chunks", "redrive_asked_at")
    op.drop_column("chunks", "round")
