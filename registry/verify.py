"""Whether everything recorded is still what it was: stored bytes, contents, the event chain, and the tables derived from it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select, text

from lastgood.errors import IntegrityError
from lastgood.registry import schema
from lastgood.registry.chain import check_chain
from lastgood.registry.content import Content, FileEntry
from lastgood.registry.errors import EventDamagedError
from lastgood.registry.events import read_event
from lastgood.registry.projections import Projections, Rows
from lastgood.registry.store.store import SegmentedStore


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not what was recorded: a file, an event, a row, and what is wrong with it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked, and what is wrong."""

    versions: int
    files: int
    bytes: int
    events: int
    unreferenced_files: int  # stored, whole, and of no version: left by a registration that did not come to its end
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class CatalogueCheck:
    """What the catalogue says is stored, and what is wrong with the catalogue itself."""

    events: int
    contents: Mapping[str, Content]
    weights: list[tuple[str, FileEntry]]  # by the digest they were registered with
    problems: list[Problem]


def verify(reading: Callable[[], AbstractContextManager[Connection]], blobs: SegmentedStore, digest: str | None) -> VerifyReport:
    """
    Check the log and the tables, and the bytes of one digest or of all.

    Args:
        reading: Gives a connection that sees one state of the catalogue throughout.
        blobs: The file store.
        digest: The version whose files are read; None reads every stored file.
    """
    # Reading the files may take long; the catalogue is not held open meanwhile.
    with reading() as connection:
        catalogue = check_catalogue(connection, digest)
    sizes, unreferenced, problems = _check_files(catalogue, blobs, everything=digest is None)
    problems = [*catalogue.problems, *problems]
    return VerifyReport(len(catalogue.contents), len(sizes), sum(sizes.values()), catalogue.events, unreferenced, tuple(problems))


def check_catalogue(connection: Connection, digest: str | None) -> CatalogueCheck:
    """Check the database, the event chain, the tables derived from it, and the contents of one digest or of all."""
    problems: list[Problem] = []
    if connection.dialect.name == "sqlite":
        answers = connection.execute(text("PRAGMA quick_check")).scalars()
        problems += [Problem("catalogue", f"the database is damaged: {answer}") for answer in answers if answer != "ok"]
    rows = [dict(row) for row in connection.execute(select(schema.events).order_by(schema.events.c.position)).mappings()]
    heads = {row.writer: (row.sequence, row.hash) for row in connection.execute(select(schema.writers))}
    problems += [Problem(name, sentence) for name, sentence in check_chain(rows, heads)]
    derived, unreadable = _derive(rows)
    problems += [*unreadable, *_check_projections(connection, derived)]
    contents, bad = _read_contents(connection, digest)
    weights = [(own, entry) for (own, _), entry in derived.weights.items() if digest in {None, own}]
    return CatalogueCheck(len(rows), contents, weights, problems + bad)


def _derive(rows: Iterable[Mapping[str, Any]]) -> tuple[Projections, list[Problem]]:
    derived, problems = Projections(), []
    for row in rows:
        try:
            derived.apply(read_event(row))
        except (EventDamagedError, KeyError, ValueError, TypeError) as exc:
            problems.append(Problem(f"event {row['position']}", f"cannot be applied: {exc}"))
    return derived, problems


def _check_projections(connection: Connection, derived: Projections) -> Iterator[Problem]:
    for table, wanted in (
        (schema.versions, derived.versions),
        (schema.aliases, derived.aliases),
        (schema.tombstones, derived.tombstones),
        (schema.routes, derived.routes),
    ):
        yield from _compare(connection, table, wanted)


def _compare(connection: Connection, table: Table, wanted: Rows) -> Iterator[Problem]:
    keys = [column.name for column in table.primary_key]
    found = {tuple(str(row[key]) for key in keys): dict(row) for row in connection.execute(select(table)).mappings()}
    for key in sorted(found.keys() | wanted.keys()):
        name = f"{table.name} {' '.join(key)}"
        if key not in found:
            yield Problem(name, "is missing: the events say it exists")
        elif key not in wanted:
            yield Problem(name, "exists, but no event says so")
        elif found[key] != dict(wanted[key]):
            wrong = [
                f"{field} is {value!r}, not {wanted[key][field]!r}" for field, value in found[key].items() if value != wanted[key][field]
            ]
            yield Problem(name, f"is not what the events say: {'; '.join(wrong)}")


def _read_contents(connection: Connection, digest: str | None) -> tuple[dict[str, Content], list[Problem]]:
    contents, problems = {}, []
    wanted = select(schema.versions.c.digest).distinct().order_by(schema.versions.c.digest)
    query = select(schema.contents).order_by(schema.contents.c.digest)
    if digest is not None:
        wanted, query = wanted.where(schema.versions.c.digest == digest), query.where(schema.contents.c.digest == digest)
    texts = {row.digest: row.content for row in connection.execute(query)}
    problems += [Problem(f"content {name}", "is missing") for name in connection.scalars(wanted) if name not in texts]
    for name, stored in texts.items():
        try:
            contents[name] = Content.from_bytes(stored.encode(), digest=name)
        except (IntegrityError, UnicodeEncodeError) as exc:
            problems.append(Problem(f"content {name}", str(exc)))
    return contents, problems


def _check_files(catalogue: CatalogueCheck, blobs: SegmentedStore, *, everything: bool) -> tuple[dict[str, int], int, list[Problem]]:
    """Read each stored file once; give the sizes read, how many no version has, and what is wrong."""
    users: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    listed = [(digest, entry) for digest, content in catalogue.contents.items() for entry in content.files]
    for digest, entry in (*listed, *catalogue.weights):
        users[entry.sha256].append((digest, entry.path, entry.size))
    stored = set(blobs.iterate()) if everything else set()
    sizes: dict[str, int] = {}
    problems = []
    for sha256 in sorted(stored | users.keys()):
        try:
            sizes[sha256] = blobs.verify(sha256)
        except IntegrityError as exc:
            names = [f"{path} of {digest}" for digest, path, _ in users[sha256]] or [blobs.locate(sha256)]
            problems += [Problem(name, str(exc)) for name in names]
            continue
        problems += [
            Problem(f"{path} of {digest}", f"has {sizes[sha256]} bytes; its content says {size}")
            for digest, path, size in users[sha256]
            if size != sizes[sha256]
        ]
    return sizes, sum(1 for sha256 in sizes if not users[sha256]), problems
