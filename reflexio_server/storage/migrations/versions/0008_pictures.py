"""What stands in pictures is kept beside them, and found."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

UNREAD = sa.text("image_sha256 IS NOT NULL AND picture_read IS NULL")


def upgrade() -> None:
    op.add_column("images", sa.Column("text", sa.Text(), nullable=True))
    op.add_column("images", sa.Column("reader", sa.Text(), nullable=True))
    op.add_column("interactions", sa.Column("picture_read", sa.Boolean(), nullable=True))
    op.create_index(
        "interactions_with_unread_pictures", "interactions", ["id"], sqlite_where=UNREAD, postgresql_where=UNREAD
    )
