"""What is known of a file's inside: where its tensors lie."""

from dataclasses import dataclass
from typing import Final, Protocol

# Bytes of an element, by its name in safetensors (https://github.com/huggingface/safetensors, "Format").
ITEM_BYTES: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
TENSORS_MAX: Final = 200_000  # of one file; what lists more is taken for bytes
HEADER_BYTES_MAX: Final = 64 << 20  # read of one file to find its tensors


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's elements in a file: row-major, little-endian, without gaps."""

    name: str
    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    offset: int  # bytes from the file's begin
    nbytes: int


class Source(Protocol):
    """A file that is read where it is asked for; parsers never load all of it."""

    @property
    def size(self) -> int:
        """Give the bytes there are."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """Read so many bytes from there; fewer only at the end."""
        ...
