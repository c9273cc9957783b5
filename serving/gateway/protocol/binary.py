"""
The protocol's binary form of tensors: behind the JSON of a body, one after the other, in the order the JSON names them.

Elements are row-major and little-endian; BYTES elements are each a u32 length and that many bytes, here of UTF-8.

Source: Open Inference Protocol, "Binary tensor data extension".
"""

import math
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import Array, decode_texts, encode_texts
from lastgood.tensors import DATATYPES

BINARY: Final = b"application/octet-stream"
HEAD_BYTES: Final = b"inference-header-content-length"  # the header that says where the JSON ends
_HOST_ORDER: Final = "<" if sys.byteorder == "little" else ">"


def split_body(body: bytes, head_bytes: bytes | None) -> tuple[memoryview, memoryview]:
    """
    Part a body into its JSON and what follows it.

    Args:
        body: Whole.
        head_bytes: Value of the header that says how long the JSON is; None where the body is all JSON.

    Raises:
        BadRequestError: The header is no length, or speaks of more than the body has.
    """
    whole = memoryview(body)
    if head_bytes is None:
        return whole, whole[:0]
    if not head_bytes.isdigit() or len(head_bytes) > 12:
        raise BadRequestError(f"Inference-Header-Content-Length is {head_bytes[:40].decode('latin-1')!r}; expected a number of bytes.")
    length = int(head_bytes)
    if length > len(whole):
        raise BadRequestError(f"Inference-Header-Content-Length is {length}; the body has {len(whole)} bytes.")
    return whole[:length], whole[length:]


def read_tensor(raw: memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    """
    Read one tensor.

    Args:
        raw: Its bytes, no more and no fewer.
        datatype: Of the Open Inference Protocol.
        shape: Sizes, 0 or more.
        where: What an error is to call it, such as ``inputs[0]``.

    Returns:
        A view of ``raw``; a copy where the elements are texts.

    Raises:
        BadRequestError: The bytes are not as many as the shape needs, or hold what the datatype does not.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        try:
            texts, used = decode_texts(bytes(raw), count)
        except (SlotError, UnicodeDecodeError) as exc:
            raise BadRequestError(f"{where} holds no {count} texts: {exc}. Expected each as a u32 length and UTF-8.") from None
        if used != len(raw):
            raise BadRequestError(f"{where} has {len(raw)} bytes; its {count} texts take {used}.")
        return texts.reshape(shape)
    dtype = DATATYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise BadRequestError(f"{where} has {len(raw)} bytes; shape {list(shape)} of {datatype} needs {count * dtype.itemsize}.")
    array: Array = np.frombuffer(raw, dtype.newbyteorder("<"), count).reshape(shape)
    if datatype == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise BadRequestError(f"{where} holds a byte above 1; BOOL elements are each 0 or 1.")
    return array if _HOST_ORDER == "<" else array.astype(dtype)


def write_tensor(array: Array) -> bytes:
    """Give the binary form of a tensor."""
    if array.dtype == object:
        return encode_texts([array])
    return array.tobytes() if _HOST_ORDER == "<" else array.astype(array.dtype.newbyteorder("<")).tobytes()
