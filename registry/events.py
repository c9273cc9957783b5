"""
One event of the log, and the hash that makes it part of a chain.

An event's hash is the SHA-256 of the canonical JSON (RFC 8785) of everything in it, and that includes two older
hashes: the one of the same writer's event before (``previous``) and the one of the newest event of any writer
(``anchor``). So no event can be changed, moved, added or removed without every later hash telling.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import rfc8785

from lastgood.registry.errors import EventDamagedError, InvalidEventError

FORMAT: Final = "lastgood/event/1"
PAYLOAD_LIMIT_BYTES: Final = 1 << 20
TEXT_LIMIT: Final = 512
EXACT_INTEGER: Final = 2**53 - 1  # larger ones are not exact in JSON (RFC 8785, section 3.2.2.3)
_KIND = re.compile(r"[a-z][a-z-]{0,39}")
_WRITER = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with its place in the log (``position``) and in its writer's chain (``sequence``), both from 1."""

    position: int
    writer: str
    sequence: int
    time: datetime  # UTC, never earlier than the event before
    kind: str
    model: str | None
    digest: str | None
    actor: str
    payload: Mapping[str, Any]
    idempotency: str | None
    previous: str | None
    anchor: str | None
    hash: str


def format_time(time: datetime) -> str:
    """
    Give a time as the log writes it: UTC, microseconds, so that text sorts as time does.

    Raises:
        InvalidEventError: The time has no zone.
    """
    if time.tzinfo is None:
        raise InvalidEventError(f"{time.isoformat()} has no time zone; expected an aware time.")
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote."""
    return datetime.fromisoformat(text)


def encode_payload(payload: Mapping[str, Any]) -> str:
    """
    Give a payload's canonical JSON.

    Raises:
        InvalidEventError: It holds what JSON cannot, or is larger than 1 MiB.
    """
    try:
        data = rfc8785.dumps(dict(payload))
    except (rfc8785.CanonicalizationError, RecursionError) as exc:
        raise InvalidEventError(
            f"The event's payload is not JSON: {exc}. Expected texts, finite numbers, booleans, lists and mappings; "
            f"integers beyond ±{EXACT_INTEGER} are written as text."
        ) from exc
    if len(data) > PAYLOAD_LIMIT_BYTES:
        raise InvalidEventError(f"The event's payload has {len(data)} bytes of JSON; at most {PAYLOAD_LIMIT_BYTES} fit into an event.")
    return data.decode()


def decode_payload(text: str) -> dict[str, Any]:
    """
    Read what `encode_payload` wrote; encoding it again gives the same text.

    Raises:
        ValueError: It is not a JSON object.
    """
    # Canonical JSON writes 1e20 without an exponent, so an integer beyond the exact ones was a float.
    value = json.loads(text, parse_int=lambda digits: number if abs(number := int(digits)) <= EXACT_INTEGER else float(digits))
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")  # noqa: TRY004  one error for every bad text
    return value


def hash_fields(fields: Mapping[str, Any]) -> str:
    """Give the hash of an event's columns as stored (``time`` and ``payload`` as texts), ``hash`` itself left out."""
    document = {name: value for name, value in fields.items() if name != "hash"}
    document["format"] = FORMAT
    document["payload"] = decode_payload(fields["payload"])
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def read_event(row: Mapping[Any, Any]) -> Event:
    """
    Read an event's row, without judging its hash.

    Raises:
        EventDamagedError: The time or the payload cannot be read.
    """
    try:
        return Event(**{**row, "time": parse_time(row["time"]), "payload": decode_payload(row["payload"])})
    except (TypeError, ValueError) as exc:
        raise EventDamagedError(f"Event {row['position']} cannot be read: {exc}. Run `lastgood verify`.") from exc


def check_kind(kind: str) -> str:
    """
    Give the kind back if it can name one.

    Raises:
        InvalidEventError: It is not lower-case words joined by ``-``, 40 characters at most.
    """
    if not _KIND.fullmatch(kind):
        raise InvalidEventError(f"{kind[:80]!r} names no kind of event: expected lower-case letters and '-', 40 characters at most.")
    return kind


def check_writer(name: str) -> str:
    """
    Give the writer's name back if it can name a chain.

    Raises:
        InvalidEventError: It is not lower-case letters, digits, ``_``, ``.`` and ``-``, 63 at most.
    """
    if not _WRITER.fullmatch(name):
        raise InvalidEventError(f"{name[:80]!r} names no writer: expected lower-case letters, digits, '_', '.' and '-', 63 at most.")
    return name


def check_text(text: str, what: str) -> str:
    """
    Give a short text (an actor, a reason, a key) back, without white space around it.

    Raises:
        InvalidEventError: It is empty, longer than 512 characters, no valid Unicode, or has a NUL.
    """
    stripped = text.strip()
    if not stripped or len(stripped) > TEXT_LIMIT or any("\ud800" <= character <= "\udfff" for character in stripped):
        raise InvalidEventError(f"The {what} is {text[:80]!r}; expected 1 to {TEXT_LIMIT} characters of Unicode.")
    return check_storable(stripped, what)


def check_storable(text: str, what: str) -> str:
    """
    Give a text of any length back if every database can hold it.

    Raises:
        InvalidEventError: It has a NUL, which PostgreSQL refuses.
    """
    if "\0" in text:
        raise InvalidEventError(f"The {what} is {text[:80]!r}; expected a text without the character NUL.")
    return text
