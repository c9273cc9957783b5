"""A file read in small pieces, within a limit: what every locator looks through."""

from typing import Final

from lastgood.registry.store.layout import HEADER_BYTES_MAX, Source

FIRST_BYTES: Final = 512  # read at a place that was jumped to; it holds what stands between two tensors
GROWN_BYTES: Final = 256 << 10  # read at once where one place is read after the other
LOOKS_MAX: Final = 1_000_000  # five for each of as many tensors as a file may have; some seconds


class UnreadableError(Exception):
    """
    A file says no more that can be believed: it ends early, contradicts itself, or needs more reading than is allowed.

    It does not leave this folder: `arrange` keeps what was found before it.
    """


class Window:
    """
    Pieces of a file, from a buffer that grows while reading goes on in order and is small again after a jump.

    All that it reads together is at most `HEADER_BYTES_MAX` bytes, and all that it is asked for `LOOKS_MAX` pieces, so
    that no file, whatever it claims, takes long.
    """

    def __init__(self, source: Source) -> None:
        self.size: Final = source.size
        self._source = source
        self._bytes_left = HEADER_BYTES_MAX
        self._looks_left = LOOKS_MAX
        self._begin = 0
        self._buffer = b""
        self._step = FIRST_BYTES

    def peek(self, offset: int, count: int) -> bytes:
        """
        Give so many bytes from there, or what there is of them before the end.

        Raises:
            UnreadableError: Too much was read or asked for.
        """
        self._looks_left -= 1
        if self._looks_left < 0:
            raise UnreadableError(f"more than {LOOKS_MAX} pieces")
        start = offset - self._begin
        if start >= 0 and start + count <= len(self._buffer):
            return self._buffer[start : start + count]
        return self._fill(offset, max(0, min(count, self.size - offset)))

    def read(self, offset: int, count: int) -> bytes:
        """
        Give exactly so many bytes from there.

        Raises:
            UnreadableError: They are not all inside the file, or too much was read or asked for.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise UnreadableError(f"{count} bytes at {offset} of {self.size}")
        piece = self.peek(offset, count)
        if len(piece) != count:
            raise UnreadableError(f"only {len(piece)} of {count} bytes at {offset}")
        return piece

    def charge(self, count: int) -> None:
        """
        Count bytes that are kept as if they were read: names that a few bytes in the file make long.

        Raises:
            UnreadableError: That is too much with what was read.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise UnreadableError("more than is kept of one file")

    def _fill(self, offset: int, count: int) -> bytes:
        """Read a piece that does not lie whole in the buffer, and what follows it."""
        if not 0 <= offset < self.size:
            return b""
        held_end = self._begin + len(self._buffer)
        in_order = self._buffer != b"" and self._begin <= offset <= held_end
        self._step = min(self._step * 2, GROWN_BYTES) if in_order else FIRST_BYTES
        # What the buffer still holds is not read again: else the bytes read could be more than the file has.
        held = self._buffer[offset - self._begin :] if in_order else b""
        if len(held) >= count:
            return held[:count]
        begin = offset + len(held)
        wanted = min(max(count - len(held), self._step), self.size - begin)
        if wanted > self._bytes_left:
            wanted = count - len(held)
        if wanted > self._bytes_left:
            raise UnreadableError("more than is read of one file")
        self._bytes_left -= wanted
        self._begin, self._buffer = offset, held + self._source.read_at(begin, wanted)
        return self._buffer[:count]


class Limited:
    """A file of which no more than `HEADER_BYTES_MAX` is read, however many locators try."""

    def __init__(self, source: Source) -> None:
        self.size: Final = source.size
        self._source = source
        self._bytes_left = HEADER_BYTES_MAX

    def read_at(self, offset: int, count: int) -> bytes:
        """
        Read so many bytes from there; fewer only at the end.

        Raises:
            UnreadableError: That would be too much.
        """
        if count > self._bytes_left:
            raise UnreadableError("more than is read of one file")
        self._bytes_left -= count
        return self._source.read_at(offset, count)


class Part:
    """A file that lies whole inside another one."""

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self.size: Final = size
        self._source = source
        self._offset = offset

    def read_at(self, offset: int, count: int) -> bytes:
        """Read so many bytes from there; fewer only at the part's end."""
        return self._source.read_at(self._offset + offset, max(0, min(count, self.size - offset)))
