"""
Whether the event log is what was written: every hash, every link, every order.

What a chain cannot show is its own end: who can rewrite the database can cut the newest events off and change the
``writers`` table with them. Whoever needs to know keeps the newest hash elsewhere, in a commit or a mail.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lastgood.registry.events import decode_payload, encode_payload, hash_fields

FIELDS: Final = (
    "position",
    "writer",
    "sequence",
    "time",
    "kind",
    "model",
    "digest",
    "actor",
    "payload",
    "idempotency",
    "previous",
    "anchor",
    "hash",
)
Head = tuple[int, str]  # a writer's newest sequence and its hash


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a log was found whole: its last event's position, hash and time, and what each writer's newest event was then."""

    position: int = 0
    anchor: str | None = None
    time: str = ""
    heads: Mapping[str, Head] = field(default_factory=dict)


def check_chain(rows: Iterable[Mapping[str, Any]], heads: Mapping[str, Head]) -> Iterator[tuple[str, str]]:
    """
    Give what is wrong with the log, as pairs of an event's name and a sentence.

    Args:
        rows: The columns of ``events`` as stored, ordered by position.
        heads: The ``writers`` table: for each writer, the sequence and hash of its newest event.
    """
    checked, problems = check_further(rows, Checked())
    yield from problems
    yield from check_heads(checked, heads)


def check_further(rows: Iterable[Mapping[str, Any]], checked: Checked) -> tuple[Checked, list[tuple[str, str]]]:
    """
    Check the events that follow on those that were checked.

    Args:
        rows: The columns of ``events`` as stored, ordered by position; all behind ``checked``.
        checked: What is known of those before.

    Returns:
        How far it is known now, and what is wrong, as `check_chain` gives it.
    """
    seen = dict(checked.heads)
    position, anchor, time = checked.position, checked.anchor, checked.time
    problems: list[tuple[str, str]] = []
    for row in rows:
        name = f"event {row['position']}"
        problems += [(name, sentence) for sentence in _check_links(row, position, anchor, time, seen.get(row["writer"], (0, None)))]
        if (problem := _check_hash(row)) is not None:
            problems.append((name, problem))
        position, anchor, time = row["position"], row["hash"], str(row["time"])
        seen[row["writer"]] = (row["sequence"], row["hash"])
    return Checked(position, anchor, time, seen), problems


def check_heads(checked: Checked, heads: Mapping[str, Head]) -> Iterator[tuple[str, str]]:
    """Give what is wrong with the log's end, once all of it was checked."""
    seen = checked.heads
    for writer in sorted(seen.keys() | heads.keys()):
        if seen.get(writer) != heads.get(writer):
            yield f"writer {writer}", f"its newest event should be {_head(heads.get(writer))}; the log ends with {_head(seen.get(writer))}"


def _check_links(row: Mapping[str, Any], position: int, anchor: str | None, time: str, head: tuple[int, str | None]) -> Iterator[str]:
    sequence, previous = head
    if row["position"] != position + 1:
        yield f"follows position {position}: an event is missing or was moved"
    if row["sequence"] != sequence + 1:
        yield f"is number {row['sequence']} of {row['writer']}, after {sequence}: an event is missing or was moved"
    if row["previous"] != previous:
        yield f"does not carry the hash of {row['writer']}'s event before it"
    if row["anchor"] != anchor:
        yield "does not carry the hash of the event before it"
    if str(row["time"]) < time:
        yield f"happened at {row['time']}, before the event before it ({time})"


def _check_hash(row: Mapping[str, Any]) -> str | None:
    try:
        if encode_payload(decode_payload(row["payload"])) != row["payload"]:
            return "has a payload that is not canonical JSON: it was changed"
        actual = hash_fields({field: row[field] for field in FIELDS})
    except (ValueError, TypeError) as exc:
        return f"cannot be read: {exc}"
    return None if actual == row["hash"] else f"hashes to {actual[:12]}…, not to its recorded {str(row['hash'])[:12]}…: it was changed"


def _head(head: Head | None) -> str:
    return "nothing" if head is None else f"number {head[0]} ({head[1][:12]}…)"
