"""Made for tests and fault runs: older code goes on, as it does not know the new column."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from reflexio_server.storage import migrations

revision = "9001"
down_revision = max(file.name[:4] for file in (Path(next(iter(migrations.__path__))) / "versions").glob("[0-9]*.py"))
oldest = down_revision


def upgrade() -> None:
    op.add_column("interactions", sa.Column("of_later", sa.Text(), nullable=True))
