"""The first format: the event log, what is derived from it, and the rules that keep both from being written anew."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

# As they were then: what `schema` says changes with the formats after this one.
_TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INTEGER: Final = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_RULES: Final = (
    ("events", "UPDATE", "the event log only grows"),
    ("events", "DELETE", "the event log only grows"),
    ("versions", "UPDATE", "a version never changes"),
    ("versions", "DELETE", "version numbers are never reused"),
    ("contents", "UPDATE", "a content never changes under its digest"),
)


def upgrade() -> None:
    """Make everything, in a database that has nothing of it."""
    meta = op.create_table("meta", _text("key", primary_key=True), _text("value"))
    op.bulk_insert(meta, [{"key": "format", "value": "1"}])
    _create_log()
    _create_derived()
    for table, operation, reason in _RULES:
        _refuse(table, operation, reason)


def _create_log() -> None:
    op.create_table(
        "events",
        _integer("position", primary_key=True, autoincrement=False),
        _text("writer"),
        _integer("sequence"),
        _text("time", index=True),
        _text("kind", index=True),
        _text("model", nullable=True, index=True),
        _text("digest", nullable=True, index=True),
        _text("actor"),
        _text("payload"),
        _text("idempotency", nullable=True, unique=True),
        _text("previous", nullable=True),
        _text("anchor", nullable=True),
        _text("hash", unique=True),
        sa.UniqueConstraint("writer", "sequence"),
    )
    op.create_table("writers", _text("writer", primary_key=True), _integer("sequence"), _text("hash"))


def _create_derived() -> None:
    op.create_table("contents", _text("digest", primary_key=True), _text("content"))
    op.create_table(
        "versions",
        _text("model", primary_key=True),
        _integer("number", primary_key=True, autoincrement=False),
        sa.Column("digest", _TEXT, sa.ForeignKey("contents.digest"), nullable=False, index=True),
        _text("created"),
        _text("created_by"),
        _integer("position"),
        sa.UniqueConstraint("model", "digest"),
    )
    op.create_table(
        "aliases",
        _text("model", primary_key=True),
        _text("name", primary_key=True),
        _text("digest"),
        _integer("number"),
        _text("since"),
        _integer("position"),
        sa.ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
    )
    op.create_table(
        "tombstones",
        sa.Column("digest", _TEXT, sa.ForeignKey("contents.digest"), primary_key=True),
        *map(_text, ("id", "model", "cause", "why", "actor", "time")),
    )
    op.create_table("routes", _text("model", primary_key=True), _integer("generation"), _text("body"))


def _text(name: str, *, nullable: bool = False, **options: Any) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable, **options)


def _integer(name: str, *, primary_key: bool = False, autoincrement: bool = True) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False, primary_key=primary_key, autoincrement=autoincrement)


def _refuse(table: str, operation: str, reason: str) -> None:
    name = f"{table}_no_{operation.lower()}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} BEFORE {operation} ON {table} BEGIN SELECT RAISE(ABORT, '{reason}'); END")
    else:
        op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{reason}'; END $$")
        op.execute(f"CREATE TRIGGER {name} BEFORE {operation} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
