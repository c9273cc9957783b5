"""Variables of a TensorFlow checkpoint, as of a SavedModel: the index says what lies where in the data files."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from lastgood.registry.store.layout import TENSORS_MAX, Source, Tensor
from lastgood.registry.store.locate.bounds import NAME_CHARS_MAX, RANK_MAX, arrange
from lastgood.registry.store.locate.window import UnreadableError, Window
from lastgood.registry.store.locate.wire import LENGTH, iterate_fields, read_signed, read_varint

_MAGIC: Final = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES: Final = 48  # two handles, padding, magic
_TRAILER_BYTES: Final = 5  # after each block: compression, checksum
_HEAD_BYTES: Final = 15  # of an entry: three varints of 32 bits
_KEY_BYTES_MAX: Final = 4 * NAME_CHARS_MAX
_BIG_ENDIAN: Final = 1
# DataType in types.proto. The quantized types hold plain integers.
_DTYPES: Final = {
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    9: "I64",
    10: "BOOL",
    11: "I8",
    12: "U8",
    13: "I32",
    14: "BF16",
    15: "I16",
    16: "U16",
    17: "U16",
    19: "F16",
    22: "U32",
    23: "U64",
}


class _Block(NamedTuple):
    begin: int
    end: int


class _Entry(NamedTuple):
    key: bytes
    begin: int  # of the value
    end: int


class _Variable(NamedTuple):
    shard: int
    tensor: Tensor


def is_index(source: Source) -> bool:
    """Say whether a file ends as a table in LevelDB's format does."""
    return source.size >= _FOOTER_BYTES and source.read_at(source.size - len(_MAGIC), len(_MAGIC)) == _MAGIC


def locate_variables(index: Source) -> dict[int, list[Tensor]]:
    """
    Find a checkpoint's tensors by the number of the data file that they lie in.

    Texts and resources are left out, the whole of a variable that is kept in slices too, and everything where the table is
    compressed or the numbers are big-endian. Offsets are the index's word: `clip` the tensors to the data file's size.

    Source: TensorFlow, core/lib/io/format.cc, core/protobuf/tensor_bundle.proto; LevelDB, doc/table_format.md.
    """
    window = Window(index)
    shards: dict[int, list[Tensor]] = {}
    try:
        for count, (shard, tensor) in enumerate(_iterate_variables(window)):
            if count >= TENSORS_MAX:
                return {}
            shards.setdefault(shard, []).append(tensor)
    except UnreadableError:
        pass  # as in `arrange`
    arranged = {shard: arrange(tensors, None) for shard, tensors in shards.items()}
    return {shard: tensors for shard, tensors in arranged.items() if tensors}


def _iterate_variables(window: Window) -> Iterator[_Variable]:
    shards = 0
    for block in _list_blocks(window):
        for entry in _iterate_entries(window, block):
            if not entry.key:  # the header, which sorts before every name
                shards = _count_shards(window, entry)
            elif (variable := _read_variable(window, entry)) is not None and variable.shard < shards:
                yield variable


def _list_blocks(window: Window) -> list[_Block]:
    """
    List the blocks with the entries.

    Raises:
        UnreadableError: There is no footer, or a block overlaps the one before it: a table that is written from begin to
            end has none of those, and one that points at itself would be read over and over.
    """
    begin = window.size - _FOOTER_BYTES
    footer = window.read(begin, _FOOTER_BYTES)
    if not footer.endswith(_MAGIC):
        raise UnreadableError("no table")
    at = 0
    for _ in range(2):  # over the handle of the index of metadata, which is empty
        _, at = read_varint(footer, at)
    index = _read_block(window, footer[at : at + 20], begin)
    blocks, end = [], 0
    for entry in _iterate_entries(window, index):
        block = _read_block(window, window.read(entry.begin, min(20, entry.end - entry.begin)), index.begin)
        if block.begin < end:
            raise UnreadableError(f"two blocks at {block.begin}")
        end = block.end + _TRAILER_BYTES
        blocks.append(block)
    return blocks


def _read_block(window: Window, handle: bytes, limit: int) -> _Block:
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    if size < 4 or offset + size + _TRAILER_BYTES > limit or window.read(offset + size, 1) != b"\0":
        raise UnreadableError(f"no plain block of {size} bytes at {offset}")
    restarts = int.from_bytes(window.read(offset + size - 4, 4), "little")
    end = offset + size - 4 - 4 * restarts
    if end < offset:
        raise UnreadableError(f"{restarts} restarts in a block of {size} bytes")
    return _Block(offset, end)


def _iterate_entries(window: Window, block: _Block) -> Iterator[_Entry]:
    """Give a block's entries; each repeats the begin of the key before it by its length only."""
    at, end = block
    key = b""
    while at < end:
        head = window.peek(at, min(_HEAD_BYTES, end - at))
        shared, used = read_varint(head, 0)
        added, used = read_varint(head, used)
        length, used = read_varint(head, used)
        begin = at + used
        at = begin + added + length
        if at > end or shared > len(key) or shared + added > _KEY_BYTES_MAX:
            raise UnreadableError(f"no entry before {at}")
        window.charge(shared)
        key = key[:shared] + window.read(begin, added)
        yield _Entry(key, begin + added, at)


def _count_shards(window: Window, entry: _Entry) -> int:
    """Read BundleHeaderProto; 0 where no shard can be used."""
    fields = {field.number: field.value for field in iterate_fields(window, entry.begin, entry.end)}
    return 0 if fields.get(2) == _BIG_ENDIAN else fields.get(1, 0)


def _read_variable(window: Window, entry: _Entry) -> _Variable | None:
    """Read BundleEntryProto; None where it has no type or shape of its own."""
    values: dict[int, int] = {}
    dims: list[int] = []
    for field in iterate_fields(window, entry.begin, entry.end):
        if field.number == 2 and field.wire == LENGTH:
            for part in iterate_fields(window, field.begin, field.end):
                if part.number == 3 or len(dims) >= RANK_MAX:  # of unknown rank
                    return None
                if part.number == 2 and part.wire == LENGTH:
                    sizes = {size.number: size.value for size in iterate_fields(window, part.begin, part.end)}
                    dims.append(read_signed(sizes.get(1, 0)))
        else:
            values[field.number] = field.value
    if values.get(1) not in _DTYPES or 7 in values:
        return None
    name, dtype = entry.key.decode(errors="replace"), _DTYPES[values[1]]
    return _Variable(values.get(3, 0), Tensor(name, dtype, tuple(dims), values.get(4, 0), values.get(5, 0)))
