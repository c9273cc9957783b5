"""Flags that several commands share, once."""

import math
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

Json = Annotated[bool, Parameter(name="--json", negative="", help="Write JSON.")]
Why = Annotated[str, Parameter(name=["--message", "-m"], help="Why; kept in the record.")]
DryRun = Annotated[bool, Parameter(name="--dry-run", negative="", help="Say what would be done, and do nothing.")]
Tag = Annotated[bool, Parameter(name="--tag", negative="", help="Tag the commit with the version's name and digest.")]


def check_wait(_: type, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected a number of seconds above 0, got {value}")


def read_whole(_: type, tokens: Sequence[Token]) -> int:
    """Read a whole number from 0."""
    text = tokens[-1].value
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"expected a whole number from 0, got {text[:40]!r}")
    return int(text)


WaitSeconds = Annotated[float, Parameter(name="--wait-seconds", validator=check_wait, help="How long to wait at most.")]
Seed = Annotated[int | None, Parameter(converter=read_whole, help="Of everything random; default: the next version number.")]
