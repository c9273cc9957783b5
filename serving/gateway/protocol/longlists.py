"""
Long lists of numbers cut out of a request's JSON and read by simdjson, two to three times as fast as as Python objects.

What is left of the JSON is a request with empty lists, for the usual reader. Only what cannot be mistaken is cut out: ``"data":[`` as a
key, to the first ``]``. A quote inside of a JSON text always has a backslash before it, so that the quote behind ``data`` ends a text,
and the one before begins it unless a backslash is there; and a list of numbers has no bracket inside.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import simdjson

from lastgood.serving.replica.slots import Array

_KEY: Final = b'"data":['
_parser = simdjson.Parser()


class NotPlainError(Exception):
    """A list is none of numbers."""


class Cut(NamedTuple):
    """A body without its lists of numbers, and those."""

    rest: bytes
    lists: Sequence[bytes]


def read_numbers(raw: bytes) -> Array:
    """
    Give a JSON list's numbers as float64.

    Raises:
        NotPlainError: It holds something else.
    """
    try:
        numbers = _parser.parse(raw)
        if isinstance(numbers, simdjson.Array):
            as_buffer: Any = numbers.as_buffer  # whose type hint promises bytes
            return np.frombuffer(as_buffer(of_type="d"))
    except (TypeError, ValueError, RuntimeError) as exc:
        raise NotPlainError from exc
    raise NotPlainError


def cut_out(body: bytes, count: int) -> Cut | None:
    """Cut ``count`` lists out of a body, in their order; None where there are not as many."""
    pieces, lists, at = [], [], 0
    for _ in range(count):
        begin = body.find(_KEY, at)
        end = body.find(b"]", begin) + 1
        if begin < 1 or not end or body[begin - 1] == ord("\\"):
            return None
        begin += len(_KEY) - 1
        pieces.append(body[at:begin])
        lists.append(body[begin:end])
        at = end
    if body.find(_KEY, at) >= 0:
        return None
    pieces.append(body[at:])
    return Cut(b"[]".join(pieces), lists)
