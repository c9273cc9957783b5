"""``lastgood at``."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lastgood.cli.output import note, print_json, print_line, show_time
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.registry.rows import Held

_AGO = re.compile(r"(\d{1,6})\s*(second|minute|hour|day|week)s?\s+ago")


class InvalidTimeError(UsageError):
    """A text that names no time."""

    code = "cli.invalid-time"


def at(model: str, time: str, /, *, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """
    Show which version was live at a time, and why.

    Example: lastgood at digits "2 hours ago"

    Args:
        model: The model.
        time: ISO 8601, such as 2026-03-01T14:03 (local time unless it has an offset), now, or "2 hours ago".
        json: Write JSON.
    """
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    now = datetime.now(UTC)
    when = parse_time(time, now=now)
    with Registry.open(load_settings(), writer="cli") as registry:
        moment = registry.at(model, when)
    if when > now:
        note(f"{show_time(when)} has not come yet: this is what holds now.")
    if json:
        print_json(moment)
        return
    print_line(f"{model} at {show_time(when)}")
    for name, held in (("live", moment.live), ("stable", moment.stable)):
        print_line(f"  {name}: {_tell(held)}")


def parse_time(text: str, *, now: datetime) -> datetime:
    """
    Read a time as people write it; without an offset it is local.

    Raises:
        InvalidTimeError: It is none.
    """
    text = text.strip()
    if text == "now":
        return now
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{f"{ago[2]}s": int(ago[1])})
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidTimeError(f'{text[:80]!r} is no time; expected ISO 8601 such as 2026-03-01T14:03, "now" or "2 hours ago".') from exc


def _tell(held: "Held | None") -> str:
    if held is None:
        return "no version"
    event = held.event
    line = f"{held.version} ({held.version.digest[:19]}) since {show_time(held.since)}, put there by {event.actor}"
    line += f" in event {event.position}: {event.payload['why']}"
    if held.tombstoned is not None:
        out = held.tombstoned
        line += f" Taken out as bad on {show_time(out.time)}: {out.payload['why']}"
    return line
