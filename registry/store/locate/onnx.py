"""Tensors of an ONNX model, in the file and in files beside it; read field by field, without the onnx package."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from lastgood.registry.store.layout import TENSORS_MAX, Source, Tensor
from lastgood.registry.store.locate.bounds import NAME_CHARS_MAX, RANK_MAX, arrange, count_bytes
from lastgood.registry.store.locate.window import UnreadableError, Window
from lastgood.registry.store.locate.wire import LENGTH, VARINT, Field, iterate_fields, read_field, read_signed, read_varints

# The messages on the way to a tensor, and in which of their fields the next ones are.
_MODEL, _TRAINING, _FUNCTION, _GRAPH = "model", "training", "function", "graph"
_NODE, _ATTRIBUTE, _TENSOR = "node", "attribute", "tensor"
_CHILDREN: Final = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR},  # 15, sparse initializers, have their values apart from their places
    _FUNCTION: {7: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH},
}
# What protobuf's own parsers take. Deeper messages are passed over.
_DEPTH_MAX: Final = 100
# TensorProto.DataType. The types of fewer than 8 bits, of 8 bits with a point, complex ones and texts have no name here.
_DTYPES: Final = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    16: "BF16",
}
# Fields of TensorProto.
_DIMS, _DATA_TYPE, _SEGMENT, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _PLACE = 1, 2, 3, 4, 8, 9, 10, 13, 14
# Fields with elements as varints or texts: what has them lies nowhere as it is in memory.
_ELSEWHERE: Final = {_SEGMENT, 5, 6, 7, 11}
_PACKED: Final = {_FLOATS: "F32", _DOUBLES: "F64"}
_PLACE_EXTERNAL: Final = 1
_PLACE_KEYS: Final = {"location", "offset", "length"}
_KEY_BYTES_MAX: Final = 64
_VALUE_BYTES_MAX: Final = 4096
_DIGITS_MAX: Final = 20
# The first byte of a model in a file: a field of ModelProto and how it is written. Nearly always 8, the version.
_TAGS: Final = {number << 3 | VARINT for number in (1, 5)} | {number << 3 | LENGTH for number in (2, 3, 4, 6, 7, 8, 14)}


@dataclass(slots=True)
class _Tensor:
    """What is read of a TensorProto."""

    name: str = ""
    dtype: str = ""
    dims: list[int] = field(default_factory=list)
    raw: Field | None = None
    packed: list[Field] = field(default_factory=list)
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict)


class _Placed(NamedTuple):
    location: str
    tensor: Tensor


def is_plausible(head: bytes) -> bool:
    """Say whether a file could be a model by its first byte; the format has no magic number."""
    return head[:1] != b"" and head[0] in _TAGS


def locate(source: Source) -> list[Tensor]:
    """
    Find the initializers and constants in the model's own file, those of graphs in attributes and of functions too.

    Source: onnx.proto, ModelProto, GraphProto, TensorProto.
    """
    window = Window(source)
    return arrange(_find_inside(window), source.size)


def locate_external(model: Source) -> dict[str, list[Tensor]]:
    """
    Find the tensors that a model keeps in other files.

    Returns:
        By the file's path, relative to the model's folder and inside it. Offsets are the model's word: `clip` the
        tensors to the size that the file has.

    Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
    """
    places: dict[str, list[Tensor]] = {}
    try:
        for count, (location, tensor) in enumerate(_find_outside(Window(model))):
            if count >= TENSORS_MAX:
                return {}
            places.setdefault(location, []).append(tensor)
    except UnreadableError:
        pass  # as in `arrange`
    arranged = {location: arrange(tensors, None) for location, tensors in places.items()}
    return {location: tensors for location, tensors in arranged.items() if tensors}


def _find_inside(window: Window) -> Iterator[Tensor]:
    for found in _iterate_tensors(window):
        data = found.raw
        if data is None and len(found.packed) == 1 and _PACKED[found.packed[0].number] == found.dtype:
            data = found.packed[0]
        if data is not None and not found.is_external:
            yield Tensor(found.name, found.dtype, tuple(found.dims), data.begin, data.end - data.begin)


def _find_outside(window: Window) -> Iterator[_Placed]:
    for found in _iterate_tensors(window):
        location = _check_location(found.external.get("location", ""))
        if not found.is_external or location is None:
            continue
        shape = tuple(found.dims)
        nbytes = count_bytes(found.dtype, shape)
        numbers = [found.external.get("offset", "0"), found.external.get("length", str(nbytes))]
        if nbytes and all(len(number) < _DIGITS_MAX and number.isascii() and number.isdigit() for number in numbers):
            yield _Placed(location, Tensor(found.name, found.dtype, shape, int(numbers[0]), int(numbers[1])))


def _check_location(location: str) -> str | None:
    path = PurePosixPath(location)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
        return None
    return str(path)


def _iterate_tensors(window: Window) -> Iterator[_Tensor]:
    """
    Go through the file once, into the messages on the way to tensors and over all others.

    Raises:
        UnreadableError: Where the file stops being messages in messages; what was given before is sound.
    """
    at, inside = 0, [(_MODEL, window.size)]
    while inside:
        kind, end = inside[-1]
        if at >= end:
            inside.pop()
            continue
        found = read_field(window, at, end)
        child = _CHILDREN[kind].get(found.number) if found.wire == LENGTH else None
        at = found.end
        if child == _TENSOR:
            tensor = _read_tensor(window, found)
            if tensor is not None:
                yield tensor
        elif child is not None and len(inside) < _DEPTH_MAX:
            inside.append((child, found.end))
            at = found.begin


def _read_tensor(window: Window, message: Field) -> _Tensor | None:
    """Read a TensorProto; None where its elements are not one row of bytes."""
    tensor = _Tensor()
    for found in iterate_fields(window, message.begin, message.end):
        if found.number in _ELSEWHERE or (found.number in _PACKED and found.wire != LENGTH):
            return None
        if found.number == _DIMS:
            tensor.dims.extend(map(read_signed, read_varints(window, found, count_max=RANK_MAX)))
            if len(tensor.dims) > RANK_MAX:
                return None
        elif found.number == _DATA_TYPE:
            tensor.dtype = _DTYPES.get(found.value, "")
        elif found.number == _PLACE:
            tensor.is_external = found.value == _PLACE_EXTERNAL
        elif found.wire == LENGTH:
            _read_content(window, tensor, found)
    return tensor


def _read_content(window: Window, tensor: _Tensor, found: Field) -> None:
    """Take one of those fields that have a length."""
    if found.number == _NAME:
        tensor.name = _read_text(window, found, bytes_max=4 * NAME_CHARS_MAX)
    elif found.number == _RAW:
        tensor.raw = found
    elif found.number in _PACKED and found.end > found.begin:
        tensor.packed.append(found)
    elif found.number == _EXTERNAL:
        entry = {part.number: part for part in iterate_fields(window, found.begin, found.end) if part.wire == LENGTH}
        key = _read_text(window, entry[1], bytes_max=_KEY_BYTES_MAX) if 1 in entry else ""
        if key in _PLACE_KEYS:
            # What is missing or cut is no place and no number, and so not mistaken for one that was left out.
            is_whole = 2 in entry and entry[2].end - entry[2].begin <= _VALUE_BYTES_MAX
            tensor.external[key] = _read_text(window, entry[2], bytes_max=_VALUE_BYTES_MAX) if is_whole else ""


def _read_text(window: Window, found: Field, *, bytes_max: int) -> str:
    return window.read(found.begin, min(found.end - found.begin, bytes_max)).decode(errors="replace")
