"""The calendar says when its entries are due, and finds its open runs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("calendar", sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("calendar_runs_open", "calendar_runs", ["entry"], postgresql_where=sa.text("finished_at IS NULL"))


def downgrade() -> None:
    op.drop_index("calendar_runs_open", table_name="calendar_runs")
    op.drop_column("calendar", "next_due_at")
