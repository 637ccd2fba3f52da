"""What a purge needs: its order, how far it is, and what it removed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("blocked", sa.Column("purge_no", sa.BigInteger(), nullable=True))
    op.add_column("blocked", sa.Column("purge_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("blocked", sa.Column("purge_asked_by", sa.Text(), nullable=True))
    op.add_column("blocked", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_unique_constraint("blocked_purge", "blocked", ["purge_no"])
    op.add_column("chunks", sa.Column("purged_to", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("datasets", sa.Column("is_stale", sa.Boolean(), server_default="false", nullable=False))
    op.create_index("datasets_stale", "datasets", ["id"], postgresql_where=sa.text("is_stale"))
    op.create_table(
        "removals",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("chunk_id", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("takedown_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ordered_by", sa.Text(), nullable=True),
        sa.Column("was_stored", sa.Boolean(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chunk_id", "row", name="removals_place"),
    )
    op.create_index("removals_of", "removals", ["takedown_id"])


def downgrade() -> None:
    op.drop_table("removals")
    op.drop_index("datasets_stale", table_name="datasets", postgresql_where=sa.text("is_stale"))
    op.drop_column("datasets", "is_stale")
    op.drop_column("chunks", "purged_to")
    op.drop_constraint("blocked_purge", "blocked")
    op.drop_column("blocked", "purged_at")
    op.drop_column("blocked", "purge_asked_by")
    op.drop_column("blocked", "purge_asked_at")
    op.drop_column("blocked", "purge_no")
