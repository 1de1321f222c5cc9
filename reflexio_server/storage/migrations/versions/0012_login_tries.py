"""Failed logins are counted where all servers see them; what is lost with a crash is only these counts."""

from alembic import op

revision = "0012"
down_revision = "0011"
oldest = "0010"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE UNLOGGED TABLE login_tries (key bytea PRIMARY KEY, full_at bigint NOT NULL)")
