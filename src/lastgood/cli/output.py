"""Answers on stdout, everything else on stderr; a table for a person, plain lines for a pipe, JSON for a program."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


def print_json(value: Any) -> None:
    """Write a value as JSON to stdout: data classes as objects, times as ISO 8601, what is not finite as null."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2).decode() + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    Write a table to stdout.

    A terminal gets it with a title and folded to its width. A pipe gets a line per row under a line of column
    names, aligned and never shortened, so that it can be searched.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(title, columns, cells)
        return
    table = [list(columns), *cells]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def print_fields(title: str, fields: Iterable[tuple[str, Any]]) -> None:
    """Write named values to stdout, one per line, under a title."""
    named = [(name, _text(value)) for name, value in fields]
    width = max((len(name) for name, _ in named), default=0)
    sys.stdout.write(_text(title) + "\n")
    for name, value in named:
        sys.stdout.write(f"  {name.ljust(width)}  {value}".rstrip() + "\n")


def print_line(text: str) -> None:
    """Write one line to stdout."""
    sys.stdout.write(_text(text) + "\n")


def note(text: str) -> None:
    """Write one line to stderr: progress, warnings, what to do next."""
    sys.stderr.write(_text(text) + "\n")


def show_time(time: datetime) -> str:
    """Give a time in the local zone, to the second, with its offset."""
    return time.astimezone().isoformat(sep=" ", timespec="seconds")


def short_digest(digest: str | None) -> str:
    """Give enough of a digest to name it: ``sha256:`` and 12 hex digits."""
    return "" if digest is None else digest[:19]


def _print_rich(title: str, columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))  # Text: what people wrote is no markup
    Console().print(table)


def _text(value: Any) -> str:
    """Give a value as one line; control characters of what people wrote must not steer a terminal."""
    if value is None:
        return ""
    text = show_time(value) if isinstance(value, datetime) else str(value)
    return "".join(character if character.isprintable() else " " for character in text)


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
