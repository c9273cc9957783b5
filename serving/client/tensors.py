"""
Requests and answers of the Open Inference Protocol as numpy arrays, in JSON or with binary tensors behind it.

Source: Open Inference Protocol, "Inference Protocol, version 2, HTTP/REST" and "Binary tensor data extension".
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Answer, Array, datatype_of
from lastgood.serving.client.errors import BadAnswerError
from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import decode_texts, encode_texts
from lastgood.tensors import DATATYPES

BINARY: Final = "binary_tensor_data"  # the extension's name
HEAD_BYTES: Final = "inference-header-content-length"
_SWAP: Final = sys.byteorder != "little"


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    model_name: str
    outputs: list[_Output]
    model_version: str = ""
    id: str = ""


_DECODER = msgspec.json.Decoder(_Answer)


def encode_request(
    inputs: Mapping[str, Array], *, binary: bool, outputs: Sequence[str] | None = None, request_id: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """
    Write the body of a request.

    Args:
        inputs: By name. The datatype is the array's own: float32 is FP32, texts (``U``, ``S`` or objects) are BYTES.
        binary: Whether tensors, asked and answered, are in binary form.
        outputs: Names of those wanted; default: all.
        request_id: Comes back with the answer; default: the gateway's own.

    Returns:
        The body, and the headers that go with it.

    Raises:
        UsageError: An array is of a type the protocol does not have, or JSON cannot hold its values.
    """
    head: dict[str, Any] = {} if request_id is None else {"id": request_id}
    head["inputs"] = tensors = []
    parts: list[bytes | memoryview] = []
    for name, given in inputs.items():
        array, datatype = _normalise(name, given)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if binary:
            parts.append(_to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _to_list(name, array)
        tensors.append(tensor)
    if outputs is not None:
        head["outputs"] = [{"name": name} for name in outputs]
    if not binary:
        return msgspec.json.encode(head), {"content-type": "application/json"}
    head["parameters"] = {"binary_data_output": True}
    text = msgspec.json.encode(head)
    return b"".join([text, *parts]), {"content-type": "application/octet-stream", HEAD_BYTES: str(len(text))}


def decode_answer(body: bytes, headers: Mapping[str, str], *, tries: int, seconds: float) -> Answer:
    """
    Read an answer.

    Args:
        body: Whole.
        headers: Of the answer, by lower-case name.
        tries: How many attempts it took.
        seconds: And how long.

    Raises:
        BadAnswerError: It is none; says where.
    """
    length = headers.get(HEAD_BYTES, str(len(body)))
    if not (length.isascii() and length.isdigit() and len(length) < 13) or int(length) > len(body):
        raise BadAnswerError(f"The answer's {HEAD_BYTES} is {length[:20]!r}; it has {len(body)} bytes.")
    text, tail = memoryview(body)[: int(length)], memoryview(body)[int(length) :]
    try:
        answer = _DECODER.decode(text)
        version = int(answer.model_version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise BadAnswerError(f"What came is no answer of the Open Inference Protocol: {exc}.") from exc
    arrays: dict[str, Array] = {}
    for output in answer.outputs:
        try:
            size = _read_size(output, len(tail))
            arrays[output.name] = _from_list(output) if size is None else _from_bytes(output, tail[:size])
        except (ValueError, TypeError, OverflowError, SlotError) as exc:  # UnicodeDecodeError is a ValueError
            raise BadAnswerError(f"Output {output.name!r} of the answer cannot be read: {exc}.") from exc
        tail = tail[size or 0 :]
    if len(tail):
        raise BadAnswerError(f"{len(tail)} bytes follow the answer's last output; expected none.")
    return Answer(answer.model_name, version, headers.get("x-lastgood-role"), answer.id, arrays, tries, seconds)


def _normalise(name: str, given: Array) -> tuple[Array, str]:
    array = np.asarray(given)
    if array.dtype.kind in "UST":
        array = array.astype(object)
    datatype = datatype_of(array)
    if datatype is None:
        raise UsageError(f"Input {name!r} is {array.dtype}; expected texts or one of: {', '.join(map(str, DATATYPES.values()))}.")
    if datatype == "BYTES":
        texts = np.empty(array.size, object)
        texts[:] = [_read_text(name, element) for element in array.ravel()]
        array = texts.reshape(array.shape)
    return array, datatype


def _read_text(name: str, element: object) -> str:
    if not isinstance(element, str | bytes):
        raise UsageError(f"Input {name!r} holds {element!r:.40} ({type(element).__name__}); expected texts in an array of objects.")
    try:
        return element.decode() if isinstance(element, bytes) else element.encode().decode()
    except UnicodeError as exc:
        raise UsageError(f"Input {name!r} holds {element!r:.40}, which is not UTF-8: {exc}.") from exc


def _to_bytes(array: Array) -> bytes | memoryview:
    if array.dtype.kind == "O":
        return encode_texts([array])
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return ordered.tobytes() if _SWAP or not ordered.size else ordered.data.cast("B")


def _to_list(name: str, array: Array) -> list[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"Input {name!r} holds NaN or infinity, which JSON does not know; send it in binary form.")
    elements: list[Any] = array.ravel().tolist()
    return elements


def _read_size(output: _Output, left: int) -> int | None:
    size = None if output.parameters is None else output.parameters.get("binary_data_size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= left):
        raise ValueError(f"binary_data_size is {size!r}, {left} bytes are left")
    return size


def _check_shape(output: _Output) -> tuple[np.dtype[Any], int]:
    if output.datatype not in DATATYPES or any(size < 0 for size in output.shape):
        raise ValueError(f"{output.datatype} of shape {output.shape}")
    return DATATYPES[output.datatype], math.prod(output.shape)


def _from_list(output: _Output) -> Array:
    dtype, count = _check_shape(output)
    if output.data is msgspec.UNSET:
        raise ValueError("it has neither data nor binary_data_size")
    array: Array = np.array(output.data, dtype)
    if array.size != count or None in output.data:
        raise ValueError(f"{array.size} elements for shape {output.shape}, or null among them")
    return array.reshape(output.shape)


def _from_bytes(output: _Output, raw: memoryview) -> Array:
    dtype, count = _check_shape(output)
    if output.datatype == "BYTES":
        texts, used = decode_texts(bytes(raw), count)
        if used != len(raw):
            raise ValueError(f"{len(raw)} bytes, of which {count} texts take {used}")
        return texts.reshape(output.shape)
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for shape {output.shape} of {output.datatype}")
    array: Array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(output.shape)
    if dtype == np.bool_ and count and array.view(np.uint8).max() > 1:
        raise ValueError("a byte above 1 is no truth value")
    return array.astype(dtype) if _SWAP else array
