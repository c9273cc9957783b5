"""
The catalogue's tables; FORMAT.md says what each field means.

``events`` is the truth and only grows. The others are projections of it, changed in the same transaction, and
`projections.derive` gives them again from the events alone. Only portable types are used: texts and integers. Whoever changes a
table adds a migration that does the same (`lastgood.registry.migrations`) and counts `FORMAT` up; a test compares the two.
"""

from typing import Final

from sqlalchemy import DDL, BigInteger, Column, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Table, Text, UniqueConstraint, event

FORMAT: Final = "2"  # how many migrations lead here

metadata = MetaData()

# Both databases order texts by their bytes and hold integers of 64 bits, which PostgreSQL does when it is told to.
TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")
INTEGER: Final = Integer().with_variant(BigInteger(), "postgresql")

meta = Table(
    "meta",
    metadata,
    Column("key", TEXT, primary_key=True),
    Column("value", TEXT, nullable=False),
)

events = Table(
    "events",
    metadata,
    # Given by the writer under the write lock, not by the database: sequences of some databases leave gaps.
    Column("position", INTEGER, primary_key=True, autoincrement=False),
    Column("writer", TEXT, nullable=False),
    Column("sequence", INTEGER, nullable=False),
    Column("time", TEXT, nullable=False, index=True),
    Column("kind", TEXT, nullable=False, index=True),
    Column("model", TEXT, index=True),
    Column("digest", TEXT, index=True),
    Column("actor", TEXT, nullable=False),
    Column("payload", TEXT, nullable=False),
    Column("idempotency", TEXT, unique=True),
    Column("previous", TEXT),
    Column("anchor", TEXT),
    Column("hash", TEXT, nullable=False, unique=True),
    UniqueConstraint("writer", "sequence"),
)

writers = Table(
    "writers",
    metadata,
    Column("writer", TEXT, primary_key=True),
    Column("sequence", INTEGER, nullable=False),
    Column("hash", TEXT, nullable=False),
)

contents = Table(
    "contents",
    metadata,
    Column("digest", TEXT, primary_key=True),
    Column("content", TEXT, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", TEXT, primary_key=True),
    Column("number", INTEGER, primary_key=True, autoincrement=False),
    Column("digest", TEXT, ForeignKey("contents.digest"), nullable=False, index=True),
    Column("created", TEXT, nullable=False),
    Column("created_by", TEXT, nullable=False),
    Column("position", INTEGER, nullable=False),
    UniqueConstraint("model", "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", TEXT, primary_key=True),
    Column("name", TEXT, primary_key=True),
    Column("digest", TEXT, nullable=False),
    Column("number", INTEGER, nullable=False),
    Column("since", TEXT, nullable=False),
    Column("position", INTEGER, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("digest", TEXT, ForeignKey("contents.digest"), primary_key=True),
    Column("id", TEXT, nullable=False),
    Column("model", TEXT, nullable=False),
    Column("cause", TEXT, nullable=False),
    Column("why", TEXT, nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("time", TEXT, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("model", TEXT, primary_key=True),
    Column("generation", INTEGER, nullable=False),
    Column("body", TEXT, nullable=False),
)

condemned = Table(
    "condemned",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("collection", INTEGER, nullable=False, index=True),
    Column("removed", INTEGER, nullable=False),
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
