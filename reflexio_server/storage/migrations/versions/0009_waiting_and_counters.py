"""What waits for its vectors, and what an account counts, each in a table of its own.

Marking a row of a few hundred bytes, or counting in the row of an account, writes all of it anew in PostgreSQL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
COUNTED = ("last_sequence", "position", "newest_vector", "erased", "settled")


def upgrade() -> None:
    op.create_table(
        "account_counters",
        sa.Column("account_id", Id, sa.ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in COUNTED),
    )
    if op.get_bind().dialect.name == "postgresql":  # the new version of a row finds room on the same page
        op.execute("ALTER TABLE account_counters SET (fillfactor = 50)")
    op.execute(
        f"""INSERT INTO account_counters (account_id, {", ".join(COUNTED)})
            SELECT id, last_sequence, last_sequence + erased,
                   coalesce((SELECT max(v.id) FROM vectors v WHERE v.account_id = accounts.id), 0), erased, settled
            FROM accounts"""
    )
    for name in ("last_sequence", "erased", "settled"):
        op.drop_column("accounts", name)
    op.create_table(
        "waiting",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("user_ref", Id, nullable=False),
    )
    op.execute(
        """INSERT INTO waiting (id, account_id, user_ref)
           SELECT id, account_id, user_ref FROM interactions WHERE model IS NULL"""
    )
    op.create_index("waiting_by_user", "waiting", ["account_id", "user_ref", "id"])
    op.drop_index("interactions_waiting", "interactions")
