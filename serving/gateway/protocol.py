"""
The Open Inference Protocol, version 2, REST: bodies to tensors and tensors to bodies.

Source: Open Inference Protocol, "Inference Protocol, version 2, HTTP/REST".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lastgood.registry.content import Content
from lastgood.serving.gateway.batcher import Answers, Key
from lastgood.serving.gateway.elements import decode_elements
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.replica.slots import Array
from lastgood.tensors import TensorSpec

_ID_LIMIT = 256


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Wanted] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[object]


class _Answer(msgspec.Struct):
    model_name: str
    model_version: str
    id: str
    outputs: list[_Output]


_DECODER = msgspec.json.Decoder(_Infer)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded request: inputs in the content's order, what may be joined with it, and which outputs it wants by position."""

    id: str | None
    inputs: tuple[Array, ...]
    key: Key | None
    rows: int
    outputs: Sequence[int]


class Codec:
    """What one version's requests and answers look like."""

    def __init__(self, model: str, number: int, content: Content, *, joins: bool) -> None:
        """
        Prepare for a version.

        Args:
            model: Its model.
            number: Its number.
            content: Its inputs and outputs.
            joins: Whether requests may be joined along the first axis.
        """
        self._model = model
        self._number = str(number)
        self._inputs = content.inputs
        self._outputs = content.outputs
        self._positions = {spec.name: position for position, spec in enumerate(content.inputs)}
        self._joins = joins
        # Where only the first axis varies every request fits to every other.
        self._one_key = joins and all(-1 not in spec.shape[1:] for spec in content.inputs)
        self._all_outputs = range(len(content.outputs))

    def decode(self, body: bytes, coding: bytes | None = None) -> Call:
        """
        Read the body of an inference request.

        Args:
            body: JSON.
            coding: Value of its Content-Encoding header; there must be none.

        Raises:
            BadRequestError: It is no JSON object, or a field is missing, unknown, of another type, shape or range; names the field.
        """
        if coding is not None:
            raise BadRequestError(f"The body has Content-Encoding {coding[:40].decode('latin-1')!r}; expected plain JSON.")
        message = _decode_envelope(body)
        inputs: list[Array | None] = [None] * len(self._inputs)
        for index, given in enumerate(message.inputs):
            position = self._positions.get(given.name)
            if position is None:
                raise BadRequestError(f"inputs[{index}].name is {given.name[:80]!r}; {self._title} takes {self._list(self._inputs)}.")
            if inputs[position] is not None:
                raise BadRequestError(f"inputs[{index}].name is {given.name!r}, which was given before; expected each input once.")
            inputs[position] = self._decode_input(given, self._inputs[position], f"inputs[{index}]")
        whole = []
        for spec, array in zip(self._inputs, inputs, strict=True):
            if array is None:
                raise BadRequestError(f"inputs lacks {spec.name!r}; {self._title} takes {self._list(self._inputs)}.")
            whole.append(array)
        rows, key = 1, None
        if self._joins:
            rows = whole[0].shape[0]
            for spec, array in zip(self._inputs, whole, strict=True):
                if array.shape[0] != rows:
                    raise BadRequestError(
                        f"Input {spec.name!r} has {array.shape[0]} rows, {self._inputs[0].name!r} has {rows}; expected the same in each."
                    )
            key = () if self._one_key else tuple(array.shape[1:] for array in whole)
        if message.id is not None and len(message.id) > _ID_LIMIT:
            raise BadRequestError(f"id has {len(message.id)} characters; {_ID_LIMIT} are allowed.")
        return Call(message.id, tuple(whole), key, rows, self._choose_outputs(message.outputs))

    @property
    def _title(self) -> str:
        return f"{self._model}@{self._number}"

    @staticmethod
    def _list(specs: Sequence[TensorSpec]) -> str:
        return ", ".join(f"{spec.name!r} ({spec.datatype} {list(spec.shape)})" for spec in specs)

    def _decode_input(self, given: _Input, spec: TensorSpec, where: str) -> Array:
        if given.datatype != spec.datatype:
            raise BadRequestError(f"{where}.datatype is {given.datatype[:40]!r}; input {spec.name!r} is {spec.datatype}.")
        shape = given.shape
        if len(shape) != len(spec.shape) or any(
            size < 0 or (size != wanted and (wanted >= 0 or size == 0)) for size, wanted in zip(shape, spec.shape, strict=True)
        ):
            raise BadRequestError(
                f"{where}.shape is {shape[:16]}; input {spec.name!r} takes {list(spec.shape)}, where -1 is any size of 1 or more."
            )
        if given.data is msgspec.UNSET:
            raise BadRequestError(f"{where}.data is missing; expected the elements as JSON (the binary extension is not spoken here).")
        return decode_elements(memoryview(given.data), spec.datatype, shape, f"{where}.data")

    def _choose_outputs(self, wanted: list[_Wanted] | None) -> Sequence[int]:
        if not wanted:
            return self._all_outputs
        positions = {spec.name: position for position, spec in enumerate(self._outputs)}
        chosen: list[int] = []
        for index, output in enumerate(wanted):
            position = positions.get(output.name)
            if position is None:
                raise BadRequestError(f"outputs[{index}].name is {output.name[:80]!r}; {self._title} gives {self._list(self._outputs)}.")
            if position in chosen:
                raise BadRequestError(f"outputs[{index}].name is {output.name!r}, which was asked for before; expected each output once.")
            chosen.append(position)
        return chosen

    def encode(self, request_id: str, answers: Answers, start: int, stop: int, wanted: Sequence[int]) -> bytes:
        """Write the body of an answer: rows ``start`` to ``stop`` of the outputs that were asked for, by position."""
        outputs = []
        for position in wanted:
            spec = self._outputs[position]
            outputs.append(_Output(spec.name, spec.datatype, answers.shape(position, start, stop), answers.values(position, start, stop)))
        return _ENCODER.encode(_Answer(self._model, self._number, request_id, outputs))

    def metadata(self, versions: Sequence[int]) -> dict[str, Any]:
        """Give the protocol's model metadata."""
        return {
            "name": self._model,
            "versions": [str(number) for number in versions],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.to_json() for spec in self._inputs],
            "outputs": [spec.to_json() for spec in self._outputs],
        }


def _decode_envelope(body: bytes) -> _Infer:
    if not body:
        raise BadRequestError("The body is empty; expected a JSON object with 'inputs'.")
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `$")
        raise BadRequestError(f"{path.strip('.`') or 'The body'}: {what.replace('`', '')}.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deep; expected lists as deep as the tensor's shape.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        hint = " JSON knows no NaN and no infinity." if b"NaN" in body or b"Infinity" in body else ""
        raise BadRequestError(f"The body is not JSON: {exc}.{hint}") from None
