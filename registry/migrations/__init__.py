"""
How a catalogue of an older format becomes one of this format.

Each migration is a module with one function, ``upgrade``, which changes what lies before it with `alembic.op`; the list is their order. A
catalogue says in ``meta`` how many of them it has behind it, and no second place could say otherwise: alembic's own table of versions is
not used. Nobody but `upgrade` imports alembic, and nobody calls `upgrade` where there is nothing to do: it takes as long to import as a
whole command.

A new one: change `schema`, add a module that does the same to a catalogue that exists, append it here, count `schema.FORMAT` up. A table
that SQLite cannot alter is copied by alembic (``op.batch_alter_table``); its triggers, and what refers to it, the migration puts back.
"""

from importlib import import_module
from typing import Final

from sqlalchemy import Connection, update

from lastgood.registry import schema

MIGRATIONS: Final = ("format_1", "format_2")


def upgrade(connection: Connection, applied: int) -> None:
    """
    Bring the tables to this lastgood's format; what cannot be finished is undone with the transaction.

    Args:
        connection: In a transaction that holds the write lock.
        applied: How many migrations the catalogue has behind it; 0 where there is none yet.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    with Operations.context(MigrationContext.configure(connection)):
        for name in MIGRATIONS[applied:]:
            import_module(f"{__name__}.{name}").upgrade()
    connection.execute(update(schema.meta).where(schema.meta.c.key == "format").values(value=str(len(MIGRATIONS))))
