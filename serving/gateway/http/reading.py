"""Bytes of one connection in, whole requests out, one at a time: within the limits, and by the rules of `framing`."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from lastgood.serving.gateway.http.framing import (
    CHUNKED,
    START_LINE,
    Chunks,
    HeaderReader,
    Refusal,
    check_host,
    find_length,
    keeps_alive,
)
from lastgood.serving.gateway.http.messages import Head, Request
from lastgood.serving.gateway.kept import keep
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.telemetry.context import cut_traceparent, read_traceparent

_KEPT_HEADS: Final = 512
_KEPT_BYTES: Final = 2048  # a longer head is not kept


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class Heads:
    """
    Heads that came before, by their bytes: a client sends the same one again and again, and it is checked once.

    A few hundred short ones, the newest of them; what they take is bounded.
    """

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[bytes, Head] = {}
        self.get = self._known.get

    def put(self, raw: bytes, head: Head) -> None:
        """Keep a head that was checked; not one with a query, which is seldom the same twice."""
        if head.query or len(raw) > _KEPT_BYTES:
            return
        keep(self._known, raw, head, _KEPT_HEADS)


class RequestReader:
    """Holds what came and is not yet a request."""

    def __init__(self, limits: HttpLimits, clock: Callable[[], float], heads: "Heads | None" = None) -> None:
        """
        Begin with nothing.

        Args:
            limits: How long heads and bodies may be.
            clock: Seconds, for `since`.
            heads: Those known already, shared by the connections of a server.
        """
        self.phase = Phase.IDLE
        self.since = 0.0  # when the phase began, if it is not IDLE
        self.awaited = False  # the client waits for "100 Continue" before it sends the body
        self.method = ""  # of the request that is being read, as far as it is known
        self._limits = limits
        self._clock = clock
        self._heads = Heads() if heads is None else heads
        self._data = b""
        self._at = 0  # where in it the next byte is
        self._headers = HeaderReader()
        self._head: Head | None = None  # its body is to come
        self._traceparent: bytes | None = None  # of the same request
        self._parts = bytearray()
        self._chunks: Chunks | None = None

    @property
    def pending(self) -> bool:
        """Whether there are bytes that `read` has not been asked for, or of a request that is not whole."""
        return self.phase is not Phase.IDLE or self._at < len(self._data)

    def push(self, data: bytes) -> None:
        """Take what came."""
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0

    def read(self) -> Request | None:
        """
        Give the next whole request, None while there is none.

        Raises:
            Refusal: What came cannot be one.
        """
        if self.phase is Phase.BODY:
            return self._read_body()
        data, at = self._data, self._at
        while data.startswith(b"\r\n", at):  # some clients send one after a body
            self._at = at = at + 2
        if at == len(data):
            return None
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._wait_for_head(data[at:])
            return None
        end += 4
        raw = data[at:end]
        head, traceparent = self._heads.get(raw), None
        if head is None:
            head, traceparent = self._find_head(raw)
        length = head.length
        if length >= 0 and len(data) - end >= length:  # all of it came at once
            self._at = end + length
            self.phase = Phase.IDLE
            return Request(head, data[end : end + length], traceparent)
        self._at = end
        self.method = head.method
        self.awaited = head.expects
        self.phase = Phase.BODY
        self._head, self._traceparent = head, traceparent
        return self._read_body(begun=True)

    def _find_head(self, raw: bytes) -> tuple[Head, bytes | None]:
        """Give a head that is not known as it is, and its trace: the head without that may be, for each request has a trace of its own."""
        self.method = ""
        if len(raw) > self._limits.head_bytes:
            raise self._judge_head(raw)
        rest, traceparent = cut_traceparent(raw)
        head = None if traceparent is None else self._heads.get(rest)
        if head is not None:
            return head, traceparent
        line = START_LINE.match(rest)
        if line is None:
            raise self._judge_head(raw)
        head = self._read_head(line[1], line[2], line[3], rest)
        if head.length:
            self._headers.forget()
        left = head.headers.get(b"traceparent")
        if left is None:
            self._heads.put(rest, head)
            return head, traceparent
        # Not kept: it comes once. With two of them, nobody knows whose the request is.
        return head, read_traceparent(left) if traceparent is None else None

    def _read_head(self, method: bytes, target: bytes, version: bytes, raw: bytes) -> Head:
        self.method = method.decode("ascii")
        if version not in {b"1.1", b"1.0"}:
            raise Refusal(505, f"HTTP/{version.decode('ascii')} is not spoken here; expected HTTP/1.1.")
        if method == b"CONNECT":
            raise Refusal(501, "CONNECT is not served: this is no proxy.")
        path, _, query = target.partition(b"?")
        if not path.startswith(b"/"):
            path = _find_path(method, path)
        old = version == b"1.0"
        headers = self._headers.read(raw)
        check_host(headers.get(b"host"), old=old)
        length = find_length(headers, old=old)
        if length > self._limits.body_bytes:
            raise Refusal(413, f"The body has {length} bytes; {self._limits.body_bytes} are allowed.")
        expected = headers.get(b"expect")
        expects = expected is not None and not old
        if expected is not None and expects and expected.lower() != b"100-continue":
            raise Refusal(417, f"Expect: {expected[:80].decode('latin-1')} cannot be met; expected 100-continue.")
        return Head(
            self.method, path.decode("latin-1"), query, headers, keeps_alive(headers, old=old), old, length, expects and length != 0
        )

    def _read_body(self, *, begun: bool = False) -> Request | None:
        data, at = self._data, self._at
        head = self._head
        if head is None:
            raise RuntimeError("There is a body of no request.")
        if at < len(data):
            self.awaited = False
        if not self._gather(data, at, head.length, begun=begun):
            if begun:
                self.since = self._clock()
            return None
        body = bytes(self._parts if self._chunks is None else self._chunks.body)
        self._parts, self._chunks = bytearray(), None
        self._head = None
        self.phase = Phase.IDLE
        return Request(head, body, self._traceparent)

    def _gather(self, data: bytes, at: int, length: int, *, begun: bool) -> bool:
        """Take a piece of the body; say whether it is whole."""
        if begun and length == CHUNKED:
            self._chunks = Chunks(self._limits.body_bytes, self._limits.head_bytes)
        if self._chunks is None:
            self._at = min(len(data), at + length - len(self._parts))
            self._parts += data[at : self._at]
            return len(self._parts) == length
        rest = self._chunks.feed(data[at:])
        self._data, self._at = rest or b"", 0
        return rest is not None

    def _wait_for_head(self, part: bytes) -> None:
        """Keep the begin of a head, unless it is clear that it is none: its client would wait for the time-out."""
        if part == b"\r":
            return
        if self.phase is Phase.IDLE:
            self.phase = Phase.HEAD
            self.since = self._clock()
            self.method = ""
        lines = part.count(b"\r\n")
        if len(part) > self._limits.head_bytes or not part[:1].isalnum() or (lines and not START_LINE.match(part)):
            raise self._judge_head(part)
        if lines != part.count(b"\n") or lines != part.count(b"\r", 0, -1):
            raise Refusal(400, "A line of the head ends in a bare LF or holds a bare CR; expected CRLF.")

    def _judge_head(self, head: bytes) -> Refusal:
        line, ended, _ = head.partition(b"\r\n")
        limit = self._limits.head_bytes
        if len(head) <= limit:
            shown = line[:80].decode("latin-1")
            return Refusal(400, f"{shown!r} is no request line; expected METHOD /PATH HTTP/1.1, with one space between and CRLF behind.")
        if not ended or len(line) > limit:
            return Refusal(414, f"The request target is over {limit} bytes.")
        return Refusal(431, f"The head of the request is over {limit} bytes.")


def _find_path(method: bytes, path: bytes) -> bytes:
    """Give the path of a target that does not begin with one: the absolute form, as proxies send it, or an asterisk."""
    scheme, separator, rest = path.partition(b"://")
    if separator and scheme.lower() in {b"http", b"https"} and rest[:1] not in {b"", b"/"}:
        return b"/" + rest.partition(b"/")[2]
    if method == b"OPTIONS" and path == b"*":
        return path
    raise Refusal(400, f"{path[:80].decode('latin-1')!r} is no request target; expected a path.")
