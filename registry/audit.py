"""
Checking the event log a piece at a time, from where it was last found whole.

A log of a million events takes a minute to hash, and a process that serves has no minute: it asks for some hundred events,
does something else, and keeps how far it came. What was checked before is held by one hash: an event that is still the
same under its position has, by the chain, only the same ones before it, unless they were changed without their hashes. That
shows when they are read again, so now and then somebody begins at the beginning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from lastgood.errors import IntegrityError
from lastgood.registry.chain import Checked, check_further, check_heads
from lastgood.registry.schema import events, writers


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a log, checked: how far it is known now, what is wrong, and whether the log ends here."""

    checked: Checked
    problems: tuple[tuple[str, str], ...]  # an event's or a writer's name, and a sentence
    ended: bool


def check_piece(connection: Connection, checked: Checked, limit: int) -> Piece:
    """
    Check the next events of the log.

    Args:
        connection: Sees one state of the catalogue throughout.
        checked: How far it was found whole.
        limit: Events to read at most.
    """
    problems: list[tuple[str, str]] = []
    if checked.position:
        held = connection.scalar(select(events.c.hash).where(events.c.position == checked.position))
        if held != checked.anchor:
            sentence = f"is not the one that was found whole before (its hash was {str(checked.anchor)[:12]}…, it is {str(held)[:12]}…)"
            problems.append((f"event {checked.position}", sentence))
    query = select(events).where(events.c.position > checked.position).order_by(events.c.position).limit(limit)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    further, found = check_further(rows, checked)
    problems += found
    ended = len(rows) < limit
    if ended:
        heads = {row.writer: (row.sequence, row.hash) for row in connection.execute(select(writers))}
        problems += check_heads(further, heads)
    return Piece(further, tuple(problems), ended)


def write_checked(checked: Checked) -> dict[str, Any]:
    """Give JSON values that `read_checked` reads."""
    heads = {writer: list(head) for writer, head in checked.heads.items()}
    return {"position": checked.position, "anchor": checked.anchor, "time": checked.time, "heads": heads}


def read_checked(value: Mapping[str, Any]) -> Checked:
    """
    Read what `write_checked` wrote.

    Raises:
        IntegrityError: It is something else.
    """
    try:
        heads = {str(writer): (int(sequence), str(digest)) for writer, (sequence, digest) in value["heads"].items()}
        return Checked(int(value["position"]), value["anchor"], str(value["time"]), heads)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise IntegrityError(f"Expected how far a log was checked, with position, anchor, time and heads; got {value!r:.200}.") from exc
