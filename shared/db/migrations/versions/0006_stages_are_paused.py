"""Stages are paused, and the leader's figures can be read by others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "paused_stages",
        sa.Column("stage", sa.Text(), primary_key=True),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("leader", sa.Column("figures", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("leader", sa.Column("figures_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("leader", "figures_at")
    op.drop_column("leader", "figures")
    op.drop_table("paused_stages")
