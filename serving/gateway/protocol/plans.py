"""
What the JSON before binary tensors says, kept: a client sends the same one again and again, and only its tensors differ.

Kept are requests without an id, all of whose inputs are numbers in binary form: their head says everything but the elements.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from lastgood.serving.gateway.kept import keep
from lastgood.serving.gateway.protocol.signature import Call
from lastgood.serving.replica.slots import Array

_KEPT: Final = 256
_KEPT_BYTES: Final = 2048  # a longer head is not kept


class _Plan(NamedTuple):
    call: Call  # of the first request with this head
    places: Sequence[tuple[tuple[int, ...], np.dtype[Any], int]]  # of each input: shape, dtype, offset behind the head
    nbytes: int  # of all of them


class Plans:
    """Heads that were read before, by their bytes; belongs to one version."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[bytes, _Plan] = {}

    def read(self, body: bytes, head_bytes: bytes) -> Call | None:
        """Give a request whose head was read before; None if it was not, or its tensors have another length."""
        if not head_bytes.isdigit() or len(head_bytes) > 4:
            return None
        length = int(head_bytes)
        plan = self._known.get(body[:length])
        if plan is None or len(body) != length + plan.nbytes:
            return None
        inputs = tuple([np.ndarray(shape, dtype, body, length + offset) for shape, dtype, offset in plan.places])
        return plan.call.with_inputs(inputs)

    def keep(self, head: bytes, call: Call, order: Sequence[int]) -> None:
        """
        Keep what a head says.

        Args:
            head: The JSON.
            call: What it was read as.
            order: Of each tensor behind it, the input's position.
        """
        whole = call.inputs
        if call.id is not None or len(head) > _KEPT_BYTES or len(order) < len(whole) or not all(map(_is_plain, whole)):
            return
        offsets, end = {}, 0
        for position in order:
            offsets[position] = end
            end += whole[position].nbytes
        places = [(array.shape, array.dtype, offsets[position]) for position, array in enumerate(whole)]
        keep(self._known, head, _Plan(call.with_inputs(()), places, end), _KEPT)


def _is_plain(array: Array) -> bool:
    """Say whether any bytes are elements; those of a truth value and of texts are looked at."""
    return array.dtype.kind in "iuf" and array.size > 0 and not array.flags.owndata
