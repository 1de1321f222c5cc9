"""The database says itself from which version on it can be used: older servers go on, as long as it suits them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
oldest = "0010"


def upgrade() -> None:
    op.create_table(
        "schema_range",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO schema_range (id, oldest) VALUES (1, '0010')")
