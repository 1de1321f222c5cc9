"""Made for the tests: what code before 9001 needs is gone."""

from alembic import op

revision = "9002"
down_revision = "9001"
oldest = "9001"


def upgrade() -> None:
    op.drop_column("requests", "agent_version")
