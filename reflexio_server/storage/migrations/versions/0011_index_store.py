"""By what a store's index is known on a Chroma server, for all processes of a store that have no folder in common."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
oldest = "0010"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "index_store",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("database", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
