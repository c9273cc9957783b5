"""The second format: what collections remove is written down."""

import sqlalchemy as sa
from alembic import op

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Add the table of names."""
    op.create_table(
        "condemned",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("collection", _INTEGER, nullable=False, index=True),
        sa.Column("removed", _INTEGER, nullable=False),
    )
