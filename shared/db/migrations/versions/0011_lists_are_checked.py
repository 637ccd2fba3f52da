"""Uploaded lists are checked before anybody submits them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "list_checks",
        sa.Column("id", UUID(), server_default=sa.text("gen_random_uuid()"), primary_key=True),
        sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("upload_id", UUID(), sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("source", JSONB(), nullable=False),
        sa.Column("report", JSONB(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="list_checks_state"),
    )
    op.create_index("ix_list_checks_tenant_id", "list_checks", ["tenant_id"])
    op.create_index("ix_list_checks_upload_id", "list_checks", ["upload_id"])
    op.create_index("list_checks_open", "list_checks", ["created_at"], postgresql_where=sa.text("finished_at IS NULL"))


def downgrade() -> None:
    op.drop_table("list_checks")
