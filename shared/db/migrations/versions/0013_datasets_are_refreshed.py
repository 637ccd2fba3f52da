"""Datasets are refreshed: a later job fetches accepted rows again, and replaces those that have changed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_RENEWING = sa.text("renews IS NOT NULL AND renewed_at IS NULL")
_RENEWED = sa.text("renews IS NOT NULL")


def upgrade() -> None:
    op.drop_constraint("jobs_kind", "jobs")
    op.create_check_constraint("jobs_kind", "jobs", "kind IN ('build', 'append', 'retry', 'refresh')")
    op.add_column(
        "chunks", sa.Column("renews", sa.BigInteger(), sa.ForeignKey("chunks.id", ondelete="SET NULL"), nullable=True)
    )
    op.add_column("chunks", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("chunks", sa.Column("edits", sa.Integer(), server_default="0", nullable=False))
    op.create_index("chunks_renewing", "chunks", ["id"], postgresql_where=_RENEWING)
    op.create_index("chunks_renewed", "chunks", ["renews"], postgresql_where=_RENEWED)


def downgrade() -> None:
    op.drop_index("chunks_renewed", "chunks")
    op.drop_index("chunks_renewing", "chunks")
    for column in ("edits", "renewed_at", "renews"):
        op.drop_column("chunks", column)
    op.drop_constraint("jobs_kind", "jobs")
    op.create_check_constraint("jobs_kind", "jobs", "kind IN ('build', 'append', 'retry')")
