"""Datasets grow: a later job appends rows to one, or takes rejected rows again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.Text(), server_default="build", nullable=False))
    op.create_check_constraint("jobs_kind", "jobs", "kind IN ('build', 'append', 'retry')")
    op.add_column("jobs", sa.Column("replaced", JSONB(), server_default=sa.text("'{}'"), nullable=False))


def downgrade() -> None:
    op.drop_column("jobs", "replaced")
    op.drop_constraint("jobs_kind", "jobs")
    op.drop_column("jobs", "kind")
