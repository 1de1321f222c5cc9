"""Of an erased request no hash of its body stays: from that a short text can be guessed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    conn = op.get_bind()
    nothing = sa.bindparam("nothing", bytes(32), sa.LargeBinary())
    changed = conn.execute(
        sa.text("UPDATE requests SET body_hash = :nothing WHERE erased_at IS NOT NULL").bindparams(nothing)
    )
    if changed.rowcount:  # the server then overwrites what is left of it on disk
        op.execute(
            "UPDATE accounts SET settled = settled - 1 WHERE settled = erased"
            " AND id IN (SELECT account_id FROM requests WHERE erased_at IS NOT NULL)"
        )
