"""
Stored objects that no version needs and a collection removes, kept so that whoever registers a version meanwhile can tell.

A registration stores its files first and is known later, and files that are stored already are not written again. So a collection that
removes what no version needs may remove what one is about to need. Neither waits for the other; no clock and no lease is involved:

- A collection writes down what it is going to remove (`condemn`), under the write lock and with a number one higher than the last, when no
  version is known that needs any of it. Later, under the write lock again, it removes what is still written down.
- A registration keeps the last number from before it looked at any stored object. Under the write lock, before its version is known, it
  asks for all that was condemned since, or was before and not yet removed (`list_since`). What it needs of these it looks for: there, it is
  spared (`spare`) and stays; gone, it is stored again.

A collection that is killed leaves objects written down, for the next one. What was removed is forgotten by the next but one; a registration
from before that looks for all that it needs.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select, update

from lastgood.registry.schema import condemned, meta

_LAST: Final = "collection"  # keys of numbers in `meta`
_FORGOTTEN: Final = "collection-forgotten"
_NAMES_EACH: Final = 500  # of one statement


def read_last(connection: Connection) -> int:
    """Give the number of the last collection; 0 where there was none."""
    return _read_number(connection, _LAST)


def list_since(connection: Connection, number: int) -> set[str] | None:
    """Give the names of what may have been removed since a collection of this number was the last; None where it may be anything."""
    if number < _read_number(connection, _FORGOTTEN):
        return None
    query = select(condemned.c.name).where(or_(condemned.c.removed == 0, condemned.c.collection > number))
    return set(connection.scalars(query))


def spare(connection: Connection, names: Iterable[str]) -> None:
    """Take objects off the list: a version needs them."""
    for some in _split(names):
        connection.execute(delete(condemned).where(condemned.c.name.in_(some)))


def condemn(connection: Connection, names: Iterable[str]) -> int:
    """Write objects down to be removed, with those of collections that were killed; give the collection's number."""
    number = read_last(connection) + 1
    _write_number(connection, _LAST, number)
    _write_number(connection, _FORGOTTEN, number - 2)
    connection.execute(delete(condemned).where(condemned.c.removed == 1, condemned.c.collection <= number - 2))
    for some in _split(names):
        connection.execute(delete(condemned).where(condemned.c.name.in_(some)))
        connection.execute(insert(condemned), [{"name": name, "collection": number, "removed": 0} for name in some])
    connection.execute(update(condemned).where(condemned.c.removed == 0).values(collection=number))
    return number


def list_waiting(connection: Connection, most: int) -> Sequence[str]:
    """Give names of objects that are written down and not removed."""
    return connection.scalars(select(condemned.c.name).where(condemned.c.removed == 0).order_by(condemned.c.name).limit(most)).all()


def mark_removed(connection: Connection, names: Sequence[str]) -> None:
    """Say that objects are removed."""
    connection.execute(update(condemned).where(condemned.c.name.in_(names)).values(removed=1))


def _split(names: Iterable[str]) -> Iterator[list[str]]:
    left = iter(names)
    while some := list(islice(left, _NAMES_EACH)):
        yield some


def _read_number(connection: Connection, key: str) -> int:
    return int(connection.scalar(select(meta.c.value).where(meta.c.key == key)) or 0)


def _write_number(connection: Connection, key: str, number: int) -> None:
    connection.execute(delete(meta).where(meta.c.key == key))
    connection.execute(insert(meta).values(key=key, value=str(number)))
