"""
W3C Trace Context: whose trace a request belongs to, read from its headers, and what the answer says of it.

Bytes in, a small value out, for every protocol. What is not valid is as if it had not been sent.

Source: W3C Recommendation "Trace Context", sections 3.2 and 3.3; of the flags also Level 2, section 3.2.2.5.
"""

import re
from random import getrandbits
from typing import Final

_ANY: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
# The line as nearly every client writes it, of the only version there is, with no flag that is unknown.
_LINE: Final = re.compile(rb"\r\n[Tt]raceparent: (00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3])\r\n")
_KNOWN_FLAGS: Final = 0x03  # sampled, and random: unknown ones must not be handed on
_KEY: Final = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER: Final = re.compile(rb"(" + _KEY + rb")=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MEMBERS: Final = 32
_NOBODY: Final = b"0" * 16


class Trace:
    """A request's place in a trace: the ids are lower-case hexadecimal, as they stand in headers."""

    __slots__ = ("span_id", "value")

    def __init__(self, value: bytes) -> None:
        """Take a ``traceparent`` that `read_traceparent` or `cut_traceparent` gave, and an id for the span that begins here."""
        self.value = value
        self.span_id = b"%016x" % (getrandbits(64) or 1)

    @property
    def trace_id(self) -> bytes:
        """Of the whole trace, 32 digits."""
        return self.value[3:35]

    @property
    def parent_id(self) -> bytes | None:
        """Of the span that asked, 16 digits; None where the trace begins here."""
        parent = self.value[36:52]
        return None if parent == _NOBODY else parent

    @property
    def flags(self) -> int:
        """Bit 0: the trace is recorded; bit 1: its id is random."""
        return int(self.value[53:55], 16)

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded by whoever began it."""
        return self.value[54] & 1 == 1  # of digits, odd ones have odd codes

    def to_value(self) -> bytes:
        """Give what tells a client the span its request became."""
        return self.value[:36] + self.span_id + self.value[52:]

    def to_line(self) -> bytes:
        """Give the header line of `to_value`."""
        return b"traceparent: %s%s%s\r\n" % (self.value[:36], self.span_id, self.value[52:])


def begin_trace() -> Trace:
    """Begin a trace that is recorded."""
    return Trace(b"00-%032x-%s-03" % (getrandbits(128) or 1, _NOBODY))


def read_traceparent(header: bytes) -> bytes | None:
    """
    Give a header's value in the form of version 00, None where it is not valid.

    A later version is read as far as it must be like this one; more than one header, joined with commas, is not valid.
    """
    found = _ANY.fullmatch(header)
    if found is None or (found[4] is not None and found[1] == b"00"):
        return None
    return b"00-%s-%02x" % (found[2], int(found[3], 16) & _KNOWN_FLAGS)


def cut_traceparent(head: bytes) -> tuple[bytes, bytes | None]:
    """
    Take the header's line out of the head of an HTTP/1.1 request, so that requests of many traces have the same head.

    Only a whole line in its plain form is taken out. What is left is to be checked as a head of its own: it is one exactly if the whole
    was, and a second line of that name is still in it.

    Returns:
        The head without the line, and its value as `read_traceparent` gives it; the head as it is, and None, where there is no such line.
    """
    found = _LINE.search(head)
    if found is None:
        return head, None
    return head[: found.start()] + head[found.end() - 2 :], found[1]


def read_tracestate(header: bytes) -> bytes:
    """Give a header's value without empty members; empty where one of them is not valid, or there are more than 32."""
    members = [member for member in (own.strip(b" \t") for own in header.split(b",")) if member]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {own[1] for own in found if own is not None}
    return b",".join(members) if len(keys) == len(members) <= _MEMBERS else b""


def describe(trace: Trace | None) -> dict[str, str]:
    """Give what a log line about a request says of its trace."""
    return {} if trace is None else {"trace_id": trace.trace_id.decode("ascii")}
