"""Made for tests and fault runs: what code before 9001 would have needed is gone."""

from alembic import op

revision = "9002"
down_revision = "9001"
oldest = "9001"


def upgrade() -> None:
    op.execute("ALTER TABLE interactions RENAME COLUMN of_later TO of_later_alone")
