"""The tables. Times are int microseconds UTC; the migrations in migrations/ make exactly this."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from reflexio_server.storage.dialect import NEVER_AGAIN, Id, only_where

NEWEST_SCHEMA = "0012"  # of the migrations, that has these tables

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("tag", String(10), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Since when nobody may log in to it, nor use its keys.
    Column("disabled_at", BigInteger),
)

# What an account counts. Whoever writes rows of an account locks this one first.
account_counters = Table(
    "account_counters",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    # The sequence of its newest interaction.
    Column("last_sequence", BigInteger, nullable=False, server_default="0"),
    # Rises with every interaction that is stored, and with every one that is erased.
    Column("position", BigInteger, nullable=False, server_default="0"),
    # The vectors.id that was given out last.
    Column("newest_vector", BigInteger, nullable=False, server_default="0"),
    # How many of its interactions were erased, and how many of these have left no trace on disk either.
    Column("erased", BigInteger, nullable=False, server_default="0"),
    Column("settled", BigInteger, nullable=False, server_default="0"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    # SHA-256 of the whole key: 256 random bits need neither salt nor stretching.
    Column("key_hash", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index("api_keys_by_account", "account_id", "key_id"),
)

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("user_id", Text, nullable=False),
    # Rises whenever vectors of the user's are deleted: what is held of them in memory must be read again.
    Column("erasures", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("account_id", "user_id"),
    # A user has a row as long as it has requests. Numbers are never used again: Chroma and memory know users by them.
    **NEVER_AGAIN,
)

requests = Table(
    "requests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    # NULL, as everything else that says something of a person, when the request was erased.
    Column("user_ref", Id, ForeignKey("users.id")),
    Column("request_id", Text, nullable=False),
    Column("request_group", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("body_hash", LargeBinary(32), nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    # When its first interaction happened, and the sequence of its last one: its place in a listing, which stays the
    # same when interactions of it are erased, or a page that was begun would miss it.
    Column("created_at", BigInteger, nullable=False, server_default="0"),
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    # When it was erased, which leaves of it the request_id: so that a retry is refused, not stored again.
    Column("erased_at", BigInteger),
    # When a part of it was erased: the ids of all that it published, in their order, as a JSON list.
    Column("published_ids", Text),
    UniqueConstraint("account_id", "request_id"),
    Index("requests_by_group", "user_ref", "request_group", "created_at", "sequence"),
    Index("requests_by_user", "user_ref", "created_at", "sequence"),
    **NEVER_AGAIN,
)

interactions = Table(
    "interactions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("user_ref", Id, ForeignKey("users.id"), nullable=False),
    Column("request_ref", Id, ForeignKey("requests.id"), nullable=False),
    Column("interaction_id", String(36), nullable=False, unique=True),
    Column("sequence", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("user_action", SmallInteger, nullable=False),
    Column("user_action_description", Text, nullable=False),
    Column("interacted_image_url", Text, nullable=False),
    # What is embedded, where it is not just the content.
    Column("search_text", Text),
    Column("image_sha256", LargeBinary(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    # 0: it has no vectors, as it has no text; -1: it could not be embedded, as the model failed or knows no word of it.
    # Else it has some, or waits for them: NULL, or the models.id of its first ones, as rows of older versions have.
    Column("model", SmallInteger),
    # What the full text took, where it is not just what is embedded: only by exactly this is it found again there to
    # be deleted, whatever a later version would make of the text.
    Column("words", Text),
    # The version of words.cut that it was made with.
    Column("words_version", SmallInteger, nullable=False, server_default="1"),
    # That what stands in its picture, if it has one, is part of search_text.
    Column("picture_read", Boolean),
    Index("interactions_by_user", "user_ref", "created_at", "interaction_id"),
    Index("interactions_by_account", "account_id", "created_at", "interaction_id"),
    Index("interactions_by_request", "request_ref"),
    # Ids are never used again, or an index could mistake a new row for an erased one.
    **NEVER_AGAIN,
)
Index(
    "interactions_with_unread_pictures",
    interactions.c.id,
    **only_where(interactions.c.image_sha256.is_not(None) & interactions.c.picture_read.is_(None)),
)

Index(
    "interactions_by_image",
    interactions.c.account_id,
    interactions.c.image_sha256,
    **only_where(interactions.c.image_sha256.is_not(None)),
)

# The interactions that wait for their vectors: the index's outbox. Without foreign keys, which each publish would pay
# for: what erases an interaction takes it out of here.
waiting = Table(
    "waiting",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("account_id", Id, nullable=False),
    Column("user_ref", Id, nullable=False),
    Index("waiting_by_user", "account_id", "user_ref", "id"),
)

images = Table(
    "images",
    metadata,
    # Kept per account: a picture shared across accounts would tell who else has it.
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("media_type", String(64), nullable=False),
    Column("width", BigInteger, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # What stands in it; NULL: it was not read.
    Column("text", Text),
    # The networks that read it, and how; NULL: none yet.
    Column("reader", Text),
)

models = Table(
    "models",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Text, nullable=False, unique=True),
    Column("dimensions", Integer, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    # Rises with every write: a reader who knows the highest it has seen can ask for what is newer.
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("user_ref", Id, ForeignKey("users.id"), nullable=False),
    Column("interaction_ref", Id, ForeignKey("interactions.id"), nullable=False),
    Column("model", Id, ForeignKey("models.id"), nullable=False),
    Column("chunk", SmallInteger, nullable=False),
    # float32, little-endian, length 1.
    Column("vector", LargeBinary, nullable=False),
    UniqueConstraint("interaction_ref", "model", "chunk"),
    Index("vectors_by_user", "user_ref", "model", "id"),
    Index("vectors_by_account", "account_id", "model", "id"),
    **NEVER_AGAIN,
)

# Vectors that were deleted and that collections may hold still; a row goes when those of the account are without it.
erased_vectors = Table(
    "erased_vectors",
    metadata,
    # What their vectors.id was.
    Column("stamp", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("model", Id, ForeignKey("models.id"), nullable=False),
    Index("erased_vectors_by_account", "account_id", "model"),
)

# One row: whose vectors searches compare. Another model takes over by changing it.
live_model = Table(
    "live_model",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model", Id, ForeignKey("models.id"), nullable=False),
    # The model that is to take over, NULL when none is; all interactions up to `done` have its vectors too.
    Column("next", Id, ForeignKey("models.id")),
    Column("done", BigInteger, nullable=False, server_default="0"),
)

collections = Table(
    "collections",
    metadata,
    # The live Chroma collection of an account and model; another generation is swapped in by changing the row.
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("model", Id, ForeignKey("models.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    # All of this account's vectors up to this vectors.id are in the collection.
    Column("applied", BigInteger, nullable=False),
    # The number of the folder that it is in.
    Column("folder", Integer, nullable=False, server_default="0"),
    Column("rebuilt_at", BigInteger),
    Column("verified_at", BigInteger),
)

# One row, where processes of several machines ask the same Chroma server: what the names of its collections begin with.
index_store = Table(
    "index_store",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(16), nullable=False),
    # Which database it was made in: a copy makes another.
    Column("database", Text, nullable=False),
)

# What whoever leads is asked to do with the index; whoever asked watches the row.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    # NULL: every account's.
    Column("account_id", Id, ForeignKey("accounts.id")),
    # waiting, running, done, or failed.
    Column("state", String(16), nullable=False),
    # Vectors handled so far, and how many there are.
    Column("done", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False, server_default="0"),
    # What came of it, for a person.
    Column("result", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
)

# One row: to which version of words.cut all that is stored is to be brought. All interactions up to `done` are of it
# and have no vectors of what their model cannot read; NULL when that is so of all.
words_state = Table(
    "words_state",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version", SmallInteger, nullable=False),
    Column("done", BigInteger),
    # Whether version 1 has rows still, which are in an index of their own.
    Column("has_first", Boolean, nullable=False),
)

# One row: the oldest schema whose code works on this one, so that it goes on while newer servers take its place.
schema_range = Table(
    "schema_range", metadata, Column("id", Id, primary_key=True), Column("oldest", String(32), nullable=False)
)
