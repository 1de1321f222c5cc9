"""Which model is live, generations of collections apart from their folder, and what is to be done with the index."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "live_model",
        sa.Column("id", ID, nullable=False),
        sa.Column("model", ID, nullable=False),
        sa.Column("next", ID, nullable=True),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.id"]),
        sa.ForeignKeyConstraint(["next"], ["models.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    # The model of the newest vector is the one that was in use last.
    op.execute("INSERT INTO live_model (id, model) SELECT 1, model FROM vectors ORDER BY id DESC LIMIT 1")
    op.add_column("collections", sa.Column("folder", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE collections SET folder = generation")
    for column in ("rebuilt_at", "verified_at"):
        op.add_column("collections", sa.Column(column, sa.BigInteger(), nullable=True))
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("account_id", ID, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
