"""What erasing needs: requests as tombstones, numbers of users that never come back, what an index must forget."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ONE_BLOB = 100_000_000  # bytes; SQLite takes ten times as many


def upgrade() -> None:
    for column in ("erased", "settled"):
        op.add_column("accounts", sa.Column(column, sa.BigInteger(), server_default="0", nullable=False))
    if op.get_bind().dialect.name == "sqlite":
        _make_anew_on_sqlite()
    else:
        op.add_column("users", sa.Column("erasures", sa.BigInteger(), server_default="0", nullable=False))
        op.alter_column("requests", "user_ref", nullable=True)
        op.add_column("requests", sa.Column("erased_at", sa.BigInteger(), nullable=True))
        op.add_column("requests", sa.Column("published_ids", sa.Text(), nullable=True))
    op.create_index(
        "interactions_by_image",
        "interactions",
        ["account_id", "image_sha256"],
        sqlite_where=sa.text("image_sha256 IS NOT NULL"),
        postgresql_where=sa.text("image_sha256 IS NOT NULL"),
    )
    op.create_table(
        "erased_vectors",
        sa.Column("stamp", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("model", ID, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["model"], ["models.id"]),
        sa.PrimaryKeyConstraint("stamp"),
    )
    op.create_index("erased_vectors_by_account", "erased_vectors", ["account_id", "model"])


def _make_anew_on_sqlite() -> None:
    """SQLite can change neither a column nor how a table counts: both tables are filled again under their names."""
    op.execute("PRAGMA defer_foreign_keys = ON")  # what refers to their rows finds them again before the commit
    for table in ("users", "requests"):
        op.execute(f"CREATE TABLE before_0004 AS SELECT * FROM {table}")
        for index in ("requests_by_group", "requests_by_user") if table == "requests" else ():
            op.drop_index(index, table)
        op.drop_table(table)
        _create(table)
        columns = ", ".join(column["name"] for column in sa.inspect(op.get_bind()).get_columns("before_0004"))
        op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM before_0004")
        op.drop_table("before_0004")
    _overwrite_free_pages()


def _create(table: str) -> None:
    if table == "users":
        op.create_table(
            "users",
            sa.Column("id", ID, nullable=False),
            sa.Column("account_id", ID, nullable=False),
            sa.Column("user_id", sa.Text(), nullable=False),
            sa.Column("erasures", sa.BigInteger(), server_default="0", nullable=False),
            sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
            sa.PrimaryKeyConstraint("id"),
            sa.UniqueConstraint("account_id", "user_id"),
            sqlite_autoincrement=True,
        )
        return
    op.create_table(
        "requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("user_ref", ID, nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_group", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.Column("published_ids", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "request_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("requests_by_group", "requests", ["user_ref", "request_group", "created_at", "sequence"])
    op.create_index("requests_by_user", "requests", ["user_ref", "created_at", "sequence"])


def _overwrite_free_pages() -> None:
    """Until now SQLite left what was deleted in pages that it did not use; from now on they are zeros."""
    conn = op.get_bind()
    free = conn.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    left = free * conn.exec_driver_sql("PRAGMA page_size").scalar_one()
    op.create_table("zeros", sa.Column("data", sa.LargeBinary()))
    while left > 0:
        conn.exec_driver_sql("INSERT INTO zeros VALUES (zeroblob(?))", (min(left, ONE_BLOB),))
        left -= ONE_BLOB
    op.drop_table("zeros")
