"""Bytes of one connection in, whole requests out, one at a time: within the limits, and by the rules of `framing`."""

from collections.abc import Callable
from enum import Enum, auto

from lastgood.serving.gateway.framing import (
    CHUNKED,
    START_LINE,
    Chunks,
    HeaderReader,
    Refusal,
    check_host,
    find_length,
    keeps_alive,
)
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.messages import Request


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class RequestReader:
    """Holds what came and is not yet a request."""

    def __init__(self, limits: HttpLimits, clock: Callable[[], float]) -> None:
        """
        Begin with nothing.

        Args:
            limits: How long heads and bodies may be.
            clock: Seconds, for `since`.
        """
        self.phase = Phase.IDLE
        self.since = 0.0  # when the phase began, if it is not IDLE
        self.awaited = False  # the client waits for "100 Continue" before it sends the body
        self.method = ""  # of the request that is being read, as far as it is known
        self._limits = limits
        self._clock = clock
        self._data = b""
        self._at = 0  # where in it the next byte is
        self._headers = HeaderReader()
        self._host: bytes | None = None  # the last one that was good
        self._request: Request | None = None  # its body is to come
        self._length = 0
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
        line = START_LINE.match(data, at, end)
        if line is None or end - at > self._limits.head_bytes:
            raise self._judge_head(data[at:end])
        self._at = end
        request = self._begin(line[1], line[2], line[3], data[at:end])
        if self._length == 0:
            self.phase = Phase.IDLE
            return request
        self._headers.forget()
        self.phase = Phase.BODY
        self._request = request
        return self._read_body(begun=True)

    def _begin(self, method: bytes, target: bytes, version: bytes, head: bytes) -> Request:
        self.method = method.decode("ascii")
        if version not in {b"1.1", b"1.0"}:
            raise Refusal(505, f"HTTP/{version.decode('ascii')} is not spoken here; expected HTTP/1.1.")
        if method == b"CONNECT":
            raise Refusal(501, "CONNECT is not served: this is no proxy.")
        path, _, query = target.partition(b"?")
        if not path.startswith(b"/"):
            path = _find_path(method, path)
        old = version == b"1.0"
        headers = self._headers.read(head)
        host = headers.get(b"host")
        if host is None or host != self._host:
            check_host(host, old=old)
            self._host = host
        self._length = find_length(headers, old=old)
        if self._length > self._limits.body_bytes:
            raise Refusal(413, f"The body has {self._length} bytes; {self._limits.body_bytes} are allowed.")
        expected = headers.get(b"expect")
        if expected is not None and not old:
            if expected.lower() != b"100-continue":
                raise Refusal(417, f"Expect: {expected[:80].decode('latin-1')} cannot be met; expected 100-continue.")
            self.awaited = self._length != 0
        return Request(self.method, path.decode("latin-1"), query, headers, b"", keep_alive=keeps_alive(headers, old=old), old=old)

    def _read_body(self, *, begun: bool = False) -> Request | None:
        data, at = self._data, self._at
        request = self._request
        if request is None:
            raise RuntimeError("There is a body of no request.")
        if at < len(data):
            self.awaited = False
        if begun and 0 < self._length <= len(data) - at:  # all of it came with the head
            request.body = data[at : at + self._length]
            self._at = at + self._length
        elif not self._gather(data, at, begun=begun):
            if begun:
                self.since = self._clock()
            return None
        else:
            request.body = bytes(self._parts if self._chunks is None else self._chunks.body)
            self._parts, self._chunks = bytearray(), None
        self._request = None
        self.phase = Phase.IDLE
        return request

    def _gather(self, data: bytes, at: int, *, begun: bool) -> bool:
        """Take a piece of the body; say whether it is whole."""
        if begun and self._length == CHUNKED:
            self._chunks = Chunks(self._limits.body_bytes, self._limits.head_bytes)
        if self._chunks is None:
            self._at = min(len(data), at + self._length - len(self._parts))
            self._parts += data[at : self._at]
            return len(self._parts) == self._length
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
