"""
The catalogue's tables; FORMAT.md says what each field means.

``events`` is the truth and only grows. The others are projections of it, changed in the same transaction, and
`projections.derive` gives them again from the events alone. Only portable types are used: texts and integers.
"""

from typing import Final

from sqlalchemy import DDL, Column, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Table, Text, UniqueConstraint, event

FORMAT: Final = "1"

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    # Given by the writer under the write lock, not by the database: sequences of some databases leave gaps.
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("writer", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("time", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False, index=True),
    Column("model", Text, index=True),
    Column("digest", Text, index=True),
    Column("actor", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("idempotency", Text, unique=True),
    Column("previous", Text),
    Column("anchor", Text),
    Column("hash", Text, nullable=False, unique=True),
    UniqueConstraint("writer", "sequence"),
)

writers = Table(
    "writers",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("hash", Text, nullable=False),
)

contents = Table(
    "contents",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("content", Text, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, ForeignKey("contents.digest"), nullable=False, index=True),
    Column("created", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("model", "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("since", Text, nullable=False),
    Column("position", Integer, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("digest", Text, ForeignKey("contents.digest"), primary_key=True),
    Column("id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("time", Text, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("model", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

condemned = Table(
    "condemned",
    metadata,
    Column("name", Text, primary_key=True),
    Column("collection", Integer, nullable=False, index=True),
    Column("removed", Integer, nullable=False),
)


def _refuse(table: Table, operation: str, reason: str) -> None:
    """Let the database itself refuse an operation on a table, whoever asks."""
    name = f"{table.name}_no_{operation.lower()}"
    _after_create(table, "sqlite", f"CREATE TRIGGER {name} BEFORE {operation} ON {table.name} BEGIN SELECT RAISE(ABORT, '{reason}'); END")
    raising = f"LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{reason}'; END $$"
    _after_create(table, "postgresql", f"CREATE FUNCTION {name}() RETURNS trigger {raising}")
    trigger = f"CREATE TRIGGER {name} BEFORE {operation} ON {table.name} FOR EACH ROW EXECUTE FUNCTION {name}()"
    _after_create(table, "postgresql", trigger)


def _after_create(table: Table, dialect: str, statement: str) -> None:
    event.listen(table, "after_create", DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap


_refuse(events, "UPDATE", "the event log only grows")
_refuse(events, "DELETE", "the event log only grows")
_refuse(versions, "UPDATE", "a version never changes")
_refuse(versions, "DELETE", "version numbers are never reused")
_refuse(contents, "UPDATE", "a content never changes under its digest")
