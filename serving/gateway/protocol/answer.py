"""Answers as JSON, with or without binary tensors behind it; put together from what stays the same and what does not."""

from collections.abc import Sequence
from typing import Final

import msgspec

from lastgood.serving.gateway.kept import keep
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.protocol.binary import write_tensor
from lastgood.serving.gateway.protocol.signature import Call
from lastgood.tensors import TensorSpec

_encode: Final = msgspec.json.Encoder().encode
_KEPT: Final = 256


class AnswerWriter:
    """Writes one version's answers."""

    __slots__ = ("_names", "_opening", "_specs")

    def __init__(self, model: str, number: int, specs: Sequence[TensorSpec]) -> None:
        """
        Prepare for a version.

        Args:
            model: Its model.
            number: Its number.
            specs: Its outputs, one or more.
        """
        self._specs = tuple(specs)
        self._opening = b'{"model_name":%b,"model_version":"%d","id":' % (_encode(model), number)
        self._names: dict[tuple[int, tuple[int, ...]], bytes] = {}  # of outputs by position and shape

    def write(self, request_id: str, answers: Outputs, start: int, stop: int, call: Call) -> tuple[bytes, int | None]:
        """
        Write the body of an answer.

        Args:
            request_id: Of the request.
            answers: What was computed.
            start: First row that is the request's own.
            stop: Behind its last one.
            call: Says which outputs are wanted, and how.

        Returns:
            The body, and how long its JSON is where binary tensors follow.
        """
        pieces = [self._opening, _encode(request_id)]
        tensors: list[bytes] = []
        separator = b',"outputs":['
        for position in call.outputs:
            pieces.append(separator)
            pieces.append(self._name(position, answers.shape(position, start, stop)))
            if position in call.binary:
                tensors.append(write_tensor(answers.part(position, start, stop)))
                pieces.append(b',"parameters":{"binary_data_size":%d}}' % len(tensors[-1]))
            else:
                pieces.append(b',"data":')
                pieces.append(_encode(answers.values(position, start, stop)))
                pieces.append(b"}")
            separator = b","
        pieces.append(b"]}")
        head = b"".join(pieces)
        return (b"".join((head, *tensors)), len(head)) if call.binary else (head, None)

    def _name(self, position: int, shape: tuple[int, ...]) -> bytes:
        """Give an output's JSON up to its shape."""
        key = (position, shape)
        named = self._names.get(key)
        if named is None:
            spec = self._specs[position]
            named = _encode({"name": spec.name, "datatype": spec.datatype, "shape": shape}).removesuffix(b"}")
            keep(self._names, key, named, _KEPT)
        return named
