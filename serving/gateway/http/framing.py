"""
Where one request ends and the next begins, by RFC 9112; whatever two readers could read differently is refused.

llhttp reads the header lines. It is strict there, and lenient in the request line, before it, and in what it makes of
Transfer-Encoding in HTTP/1.0; those rules and the bodies are here. It is never shown a body, so it cannot lose its place.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import httptools

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
START_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([!\"$-~]+) HTTP/([0-9]\.[0-9])\r\n")
_QUOTED: Final = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_FIELD_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_LINE_BYTES: Final = 1024  # of a chunk's size line or of a trailer
CHUNKED: Final = -1


class Refusal(Exception):  # noqa: N818  # becomes an answer, and never leaves the connection
    """A request is refused before it is whole, and its connection ends: nobody knows where the next one would begin."""

    def __init__(self, status: int, message: str) -> None:
        """Say what the client is told."""
        super().__init__(message)
        self.status = status
        self.message = message


class HeaderReader:
    """Reads the header lines of one head after another."""

    def __init__(self) -> None:
        """Begin with a parser that has read nothing."""
        self._headers: dict[bytes, bytes] = {}
        self._parser: Any = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take a header from the parser; one that comes again is joined to what is known."""
        name = name.lower()
        value = b"" if value is None else value.rstrip(b" \t")
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def read(self, head: bytes) -> dict[bytes, bytes]:
        """
        Give the headers of a whole head, which ends in an empty line.

        Raises:
            Refusal: They are not as RFC 9112 has them, or the method is none that is known.
        """
        headers: dict[bytes, bytes] = {}
        self._headers = headers
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # Declining is the server's right in HTTP/1.1, and Java's client always offers HTTP/2.
            self.forget()
        except httptools.HttpParserInvalidMethodError as exc:
            raise Refusal(501, f"The method {head.split(b' ', 1)[0][:40].decode('latin-1')!r} is not known.") from exc
        except httptools.HttpParserError as exc:
            raise Refusal(400, f"The request is not valid HTTP/1.1: {exc}.") from exc
        return headers

    def forget(self) -> None:
        """Read the next head anew: the parser waits for a body that it will not be shown."""
        self._parser = httptools.HttpRequestParser(self)


def check_host(host: bytes | None, *, old: bool) -> None:
    """
    See that a request says for whom it is.

    Args:
        host: Its Host header.
        old: Whether it is of HTTP/1.0, which does not ask for one.

    Raises:
        Refusal: There is none, more than one, or it is no host.
    """
    if host is None:
        if old:
            return
        raise Refusal(400, "The request must have exactly one Host header.")
    if _HOST.fullmatch(host) is None:
        raise Refusal(400, f"The request must have exactly one Host header, a name or address; it has {host[:80].decode('latin-1')!r}.")


def find_length(headers: dict[bytes, bytes], *, old: bool) -> int:
    """
    Give how many bytes the body has, `CHUNKED` if its chunks say so.

    Raises:
        Refusal: The headers contradict each other or themselves, or name a coding that is not known.

    Source: RFC 9112, section 6.3.
    """
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is None:
        if length is None:
            return 0
        if not length.isdigit() or len(length) > 19:
            raise Refusal(400, f"Content-Length {length[:40].decode('latin-1')!r} is no length; expected digits, once.")
        return int(length)
    if length is not None:
        raise Refusal(400, "Content-Length and Transfer-Encoding contradict each other; expected one of them.")
    if old:
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding; expected Content-Length.")
    codings = [own.strip(b" \t").lower() for own in coding.split(b",")]
    if codings == [b"chunked"]:
        return CHUNKED
    text = coding[:80].decode("latin-1")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise Refusal(400, f"Transfer-Encoding {text!r} leaves the end of the body open; expected chunked, once and last.")
    raise Refusal(501, f"Transfer-Encoding {text!r} is not known; expected chunked.")


def keeps_alive(headers: dict[bytes, bytes], *, old: bool) -> bool:
    """Say whether the client expects the connection to stay open after its answer."""
    connection = headers.get(b"connection")
    if connection is None:
        return not old
    options = [option.strip(b" \t") for option in connection.lower().split(b",")]
    return b"close" not in options and (not old or b"keep-alive" in options)


@dataclass(slots=True)
class Chunks:
    """The chunks of one body, as they come; extensions are read over, trailers too."""

    body_bytes: int  # at most, of the chunks together
    extra_bytes: int  # at most, of extensions and trailers
    body: bytearray = field(default_factory=bytearray)
    _kept: bytes = b""  # of a line that is not whole
    _left: int = 0  # of the chunk that is being read
    _ending: bool = False  # the line end behind a chunk comes next
    _trailing: bool = False

    def feed(self, data: bytes) -> bytes | None:
        """
        Take bytes; give what comes after the body, None while it is not whole.

        Raises:
            Refusal: They are no chunks, or too many.
        """
        at = 0
        if self._kept:
            data, self._kept = self._kept + data, b""
        while True:
            if self._left:
                piece = data[at : at + self._left]
                self.body += piece
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return None
                self._ending = True
            if self._ending:
                end = data[at : at + 2]
                if end != b"\r\n":
                    if end not in {b"", b"\r"}:
                        raise Refusal(400, "A chunk is longer than its size says; expected a line end after it.")
                    self._kept = end
                    return None
                at += 2
                self._ending = False
            end_of_line = data.find(b"\r\n", at, at + _LINE_BYTES + 2)
            if end_of_line < 0:
                self._kept = data[at:]
                if len(self._kept) > _LINE_BYTES or b"\n" in self._kept:
                    raise Refusal(400, f"A line between chunks does not end; expected CRLF within {_LINE_BYTES} bytes.")
                return None
            line = data[at:end_of_line]
            at = end_of_line + 2
            if not self._trailing:
                self._begin_chunk(line)
            elif line:
                self._skip_trailer(line)
            else:
                return data[at:]

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK_LINE.fullmatch(line)
        if found is None:
            raise Refusal(400, f"{line[:40].decode('latin-1')!r} is no chunk size; expected hexadecimal digits.")
        size = int(found[1], 16)
        self._spend(len(line) - len(found[1]))
        if len(self.body) + size > self.body_bytes:
            raise Refusal(413, f"The body is over the {self.body_bytes} bytes allowed.")
        self._left = size
        self._trailing = size == 0

    def _skip_trailer(self, line: bytes) -> None:
        found = _FIELD_LINE.fullmatch(line)
        if found is None or found[1].lower() in {b"content-length", b"transfer-encoding", b"host"}:
            raise Refusal(400, f"{line[:40].decode('latin-1')!r} cannot be a trailer.")
        self._spend(len(line) + 2)

    def _spend(self, size: int) -> None:
        self.extra_bytes -= size
        if self.extra_bytes < 0:
            raise Refusal(431, "Chunk extensions and trailers are longer than a head may be.")
