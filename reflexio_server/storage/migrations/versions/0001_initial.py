"""Everything the first version stores."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FULL_TEXT_DDL = (
    """CREATE VIEW interactions_text AS
       SELECT id, 'a' || account_id || ' u' || user_ref AS owner, coalesce(search_text, content) AS text
       FROM interactions""",
    # The owner is a token in a column of its own, so that a search walks one user's rows only.
    """CREATE VIRTUAL TABLE interactions_fts USING fts5(
       owner, text, content='interactions_text', content_rowid='id',
       tokenize='porter unicode61 remove_diacritics 2')""",
)


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("tag", sa.String(length=10), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
        sa.UniqueConstraint("tag"),
    )
    op.create_table(
        "models",
        sa.Column("id", ID, nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hint", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("key_id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_index("api_keys_by_account", "api_keys", ["account_id", "key_id"], unique=False)
    op.create_table(
        "collections",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("model", ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["model"], ["models.id"]),
        sa.PrimaryKeyConstraint("account_id", "model"),
    )
    op.create_table(
        "images",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("account_id", "sha256"),
    )
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "user_id"),
    )
    op.create_table(
        "requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("user_ref", ID, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_group", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "request_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "interactions",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("user_ref", ID, nullable=False),
        sa.Column("request_ref", ID, nullable=False),
        sa.Column("interaction_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("user_action", sa.SmallInteger(), nullable=False),
        sa.Column("user_action_description", sa.Text(), nullable=False),
        sa.Column("interacted_image_url", sa.Text(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=True),
        sa.Column("image_sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.SmallInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["request_ref"], ["requests.id"]),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("interaction_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "interactions_by_account", "interactions", ["account_id", "created_at", "interaction_id"], unique=False
    )
    op.create_index("interactions_by_request", "interactions", ["request_ref"], unique=False)
    op.create_index("interactions_by_user", "interactions", ["user_ref", "created_at", "interaction_id"], unique=False)
    op.create_index(
        "interactions_waiting",
        "interactions",
        ["account_id", "user_ref", "id"],
        unique=False,
        sqlite_where=sa.text("model IS NULL"),
        postgresql_where=sa.text("model IS NULL"),
    )
    op.create_table(
        "vectors",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("user_ref", ID, nullable=False),
        sa.Column("interaction_ref", ID, nullable=False),
        sa.Column("model", ID, nullable=False),
        sa.Column("chunk", sa.SmallInteger(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["interaction_ref"], ["interactions.id"]),
        sa.ForeignKeyConstraint(["model"], ["models.id"]),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("interaction_ref", "model", "chunk"),
        sqlite_autoincrement=True,
    )
    op.create_index("requests_by_group", "requests", ["user_ref", "request_group"], unique=False)
    op.create_index("vectors_by_account", "vectors", ["account_id", "model", "id"], unique=False)
    op.create_index("vectors_by_user", "vectors", ["user_ref", "model", "id"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for statement in FULL_TEXT_DDL:
            op.execute(statement)
    else:
        op.get_bind().exec_driver_sql(casefold_ddl())


def casefold_ddl() -> str:
    """A function that gives what Python's `str.casefold` does, whatever the database's locale."""
    folded = {chr(code): chr(code).casefold() for code in range(0x110000) if not 0xD800 <= code < 0xE000}
    folded = {one: into for one, into in folded.items() if one != into}
    given = "$1"
    for one, into in folded.items():
        if len(into) > 1:
            given = f"replace({given}, '{one}', '{into}')"
    single = {one: into for one, into in folded.items() if len(into) == 1}
    return f"""CREATE FUNCTION reflexio_casefold(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN translate({given}, '{"".join(single)}', '{"".join(single.values())}')"""
