"""What puts requests in an order: when each happened, and its place in the order of storing."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in ("created_at", "sequence"):
        op.add_column("requests", sa.Column(column, sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        """UPDATE requests SET
           created_at = (SELECT min(created_at) FROM interactions WHERE request_ref = requests.id),
           sequence = (SELECT max(sequence) FROM interactions WHERE request_ref = requests.id)"""
    )
    op.drop_index("requests_by_group", "requests")
    op.create_index("requests_by_group", "requests", ["user_ref", "request_group", "created_at", "sequence"])
    op.create_index("requests_by_user", "requests", ["user_ref", "created_at", "sequence"])
