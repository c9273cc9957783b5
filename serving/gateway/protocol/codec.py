"""
The Open Inference Protocol, version 2, REST: bodies to tensors and tensors to bodies, in JSON or with binary tensors behind it.

Source: Open Inference Protocol, "Inference Protocol, version 2, HTTP/REST" and "Binary tensor data extension".
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from lastgood.registry.content import Content
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.protocol import envelope
from lastgood.serving.gateway.protocol.answer import AnswerWriter
from lastgood.serving.gateway.protocol.binary import read_tensor, split_body
from lastgood.serving.gateway.protocol.elements import decode_elements
from lastgood.serving.gateway.protocol.envelope import GivenInput, InferRequest, PlainRequest, read_flag, read_size
from lastgood.serving.gateway.protocol.forms import Forms
from lastgood.serving.gateway.protocol.plain import PlainReader
from lastgood.serving.gateway.protocol.plans import Plans
from lastgood.serving.gateway.protocol.signature import Call, Signature, check_id, read_timeout
from lastgood.serving.replica.slots import Array


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
        self.signature = Signature(model, number, content, joins=joins)
        self._plain = PlainReader(content.inputs)
        self._plans = Plans()
        self._every_output: tuple[Sequence[int], frozenset[int]] = (self.signature.all_outputs, frozenset())
        self._forms = Forms(content.inputs, self._decode_plain)
        self.answers = AnswerWriter(model, number, content.outputs)
        self._model = model
        self._number = number
        self._origins: dict[str, bytes] = {}

    def name_origin(self, role: str) -> bytes:
        """Give the header lines that say which version answered, in which role."""
        origin = self._origins.get(role)
        if origin is None:
            origin = self._origins[role] = b"x-lastgood-version: %d\r\nx-lastgood-role: %s\r\n" % (self._number, role.encode())
        return origin

    def decode(self, body: bytes, coding: bytes | None = None, head_bytes: bytes | None = None) -> Call:
        """
        Read the body of an inference request.

        Args:
            body: JSON, and the binary tensors it speaks of.
            coding: Value of its Content-Encoding header; there must be none.
            head_bytes: Value of its Inference-Header-Content-Length header: how long the JSON is, where tensors follow.

        Raises:
            BadRequestError: It is no JSON object, or a field is missing, unknown, of another type, shape or range; names the field.
        """
        if coding is not None:
            raise BadRequestError(f"The body has Content-Encoding {coding[:40].decode('latin-1')!r}; expected plain JSON.")
        quick = self._forms.read(body) if head_bytes is None else self._plans.read(body, head_bytes)
        if quick is not None:
            return quick
        head, tail = split_body(body, head_bytes)
        message = envelope.decode(head)
        timeout = self._check(message)
        given, order = self._read_inputs(message, tail)
        inputs, key, rows = self.signature.arrange(given)
        chosen, binary = self._choose_outputs(message)
        call = Call(message.id, inputs, key, rows, chosen, binary, timeout)
        if order:
            self._plans.keep(bytes(head), call, order)
        return call

    def _decode_plain(self, body: bytes) -> Call | None:
        plain = self._plain.read(body)
        if plain is None:
            return None
        request, whole = plain
        timeout = self._check(request)
        chosen, binary = self._choose_outputs(request) if request.outputs or request.parameters else self._every_output
        return Call(request.id, whole, *self.signature.join(whole), chosen, binary, timeout)

    def _check(self, message: InferRequest | PlainRequest[Any]) -> float:
        """Check what a request says beside its tensors; give how long its client waits."""
        if message.id is not None:
            check_id(message.id)
        return read_timeout(message.parameters) if message.parameters else math.inf

    def _read_inputs(self, message: InferRequest, tail: memoryview) -> tuple[dict[int, Array], list[int]]:
        """Give the inputs by position, and the positions of those in binary form, in the order of their bytes."""
        arrays: dict[int, Array] = {}
        order = []
        for index, given in enumerate(message.inputs):
            where = f"inputs[{index}]"
            position = self.signature.find_input(given.name, given.datatype, given.shape, where)
            if position in arrays:
                raise BadRequestError(f"{where}.name is {given.name!r}, which was given before; expected each input once.")
            size = read_size(given.parameters, where) if given.parameters else None
            if size is None:
                arrays[position] = _decode_elements(given, where)
                continue
            if given.data is not msgspec.UNSET:
                raise BadRequestError(f"{where} has data and binary_data_size; expected one of them.")
            if size > len(tail):
                raise BadRequestError(f"{where}.parameters.binary_data_size is {size}; {len(tail)} bytes are left in the body.")
            arrays[position] = read_tensor(tail[:size], given.datatype, given.shape, where)
            tail = tail[size:]
            order.append(position)
        if len(tail):
            raise BadRequestError(f"{len(tail)} bytes follow the last input; expected none.")
        return arrays, order

    def _choose_outputs(self, message: InferRequest | PlainRequest[Any]) -> tuple[Sequence[int], frozenset[int]]:
        """Give the outputs that are wanted, and which of them in binary form: an output's own parameter wins over the request's."""
        always = message.parameters is not None and read_flag(message.parameters, "binary_data_output", "parameters") is True
        if not message.outputs:
            every = self.signature.all_outputs
            return every, frozenset(every) if always else frozenset()
        chosen = self.signature.find_outputs([output.name for output in message.outputs])
        binary = set()
        for index, (output, position) in enumerate(zip(message.outputs, chosen, strict=True)):
            own = read_flag(output.parameters, "binary_data", f"outputs[{index}].parameters")
            if own or (own is None and always):
                binary.add(position)
        return chosen, frozenset(binary)

    def metadata(self, versions: Sequence[int]) -> dict[str, Any]:
        """Give the protocol's model metadata."""
        return {
            "name": self._model,
            "versions": [str(number) for number in versions],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.to_json() for spec in self.signature.inputs],
            "outputs": [spec.to_json() for spec in self.signature.outputs],
        }


def _decode_elements(given: GivenInput, where: str) -> Array:
    if given.data is msgspec.UNSET:
        raise BadRequestError(f"{where}.data is missing; expected the elements, or binary_data_size and their bytes behind the JSON.")
    return decode_elements(memoryview(given.data), given.datatype, given.shape, f"{where}.data")
