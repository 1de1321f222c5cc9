"""Words are cut by the project's own function: what it made of a row is kept beside it, in an index of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FULL_TEXT_DDL = (
    # What the older index holds: rows that were not cut anew yet.
    "DROP VIEW interactions_text",
    """CREATE VIEW interactions_text AS
       SELECT id, 'a' || account_id || ' u' || user_ref AS owner, coalesce(search_text, content) AS text
       FROM interactions WHERE words_version = 1""",
    """CREATE VIEW full_text_rows AS
       SELECT id, 'a' || account_id || ' u' || user_ref AS owner, coalesce(words, search_text, content) AS text
       FROM interactions WHERE words_version > 1""",
    # Words come ready cut: "ascii" parts them at blanks, as all that is not ASCII counts as a letter for it.
    """CREATE VIRTUAL TABLE full_text USING fts5(
       owner, text, content='full_text_rows', content_rowid='id', tokenize='porter ascii')""",
)

TSVECTOR_DDL = (
    "CREATE TABLE full_text (id bigint PRIMARY KEY, words tsvector NOT NULL)",
    # What is new waits in a list that every search reads: some 500 rows.
    "CREATE INDEX full_text_by_word ON full_text USING gin (words) WITH (gin_pending_list_limit = 512)",
)


def upgrade() -> None:
    op.add_column("interactions", sa.Column("words", sa.Text(), nullable=True))
    op.add_column("interactions", sa.Column("words_version", sa.SmallInteger(), server_default="1", nullable=False))
    op.create_table(
        "words_state",
        sa.Column("id", ID, nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=True),
        sa.Column("has_first", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO words_state (id, version, done, has_first) VALUES (1, 2, 0, true)")
    # A model that is taking over begins again: some of its vectors are of texts that it cannot read.
    op.execute("UPDATE live_model SET done = 0")
    if op.get_bind().dialect.name == "sqlite":
        for statement in FULL_TEXT_DDL:
            op.execute(statement)
        if op.get_bind().exec_driver_sql("SELECT 1 FROM interactions LIMIT 1").scalar() is None:
            op.execute("DROP TABLE interactions_fts")
            op.execute("DROP VIEW interactions_text")
            op.execute("UPDATE words_state SET done = NULL, has_first = false")
    else:
        for statement in TSVECTOR_DDL:
            op.execute(statement)
        op.execute("UPDATE words_state SET done = NULL, has_first = false")
