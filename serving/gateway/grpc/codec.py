"""
Inference requests and answers between the protocol's messages and tensors.

Elements stand in the field of their datatype (`InferTensorContents`), or as raw bytes for all tensors of a message. An
answer has the form of its request, but for half precision, which has no field and makes the whole answer raw.

Source: Open Inference Protocol, "GRPC", "Tensor Data".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.grpc.messages import ModelInferResponse
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.protocol.binary import read_tensor, write_tensor
from lastgood.serving.gateway.protocol.signature import Call, Signature, check_id, read_timeout
from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES

# Where the elements of a datatype stand, and as what; half precision stands nowhere.
_FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "BOOL": ("bool_contents", np.bool_),
    "UINT8": ("uint_contents", np.uint32),
    "UINT16": ("uint_contents", np.uint32),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "INT8": ("int_contents", np.int32),
    "INT16": ("int_contents", np.int32),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", object),
}


def read_call(message: Any, signature: Signature) -> Call:
    """
    Read an inference request.

    Args:
        message: A `ModelInferRequest`.
        signature: Of the version that is to answer.

    Raises:
        BadRequestError: A field is missing, unknown, of another type, shape or range; names the field.
    """
    timeout = read_timeout(_read_parameters(message.parameters)) if message.parameters else math.inf
    check_id(message.id)
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequestError(
            f"raw_input_contents has {len(raw)} tensors, inputs has {len(message.inputs)}; expected one for each input, or none at all."
        )
    arrays: dict[int, Array] = {}
    for index, given in enumerate(message.inputs):
        where, shape = f"inputs[{index}]", list(given.shape)
        position = signature.find_input(given.name, given.datatype, shape, where)
        if position in arrays:
            raise BadRequestError(f"{where}.name is {given.name!r}, which was given before; expected each input once.")
        if not raw:
            arrays[position] = _read_contents(given.contents, given.datatype, shape, f"{where}.contents")
        elif given.contents.ListFields():
            raise BadRequestError(f"{where} has contents beside raw_input_contents; expected one of them, for all inputs.")
        else:
            arrays[position] = read_tensor(memoryview(raw[index]), given.datatype, shape, f"raw_input_contents[{index}]")
    inputs, key, rows = signature.arrange(arrays)
    names = [output.name for output in message.outputs]
    wanted = signature.find_outputs(names) if names else signature.all_outputs
    as_bytes = bool(raw) or any(signature.outputs[position].datatype not in _FIELDS for position in wanted)
    return Call(message.id or None, inputs, key, rows, wanted, frozenset(wanted) if as_bytes else frozenset(), timeout)


def _read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of parameters, whichever of its fields each has; None where it has none."""
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: None if kind is None else getattr(parameters[name], kind) for name, kind in kinds.items()}


def _read_contents(contents: Any, datatype: str, shape: Sequence[int], where: str) -> Array:
    """Read the elements of one tensor from the field of its datatype."""
    if datatype not in _FIELDS:
        raise BadRequestError(f"{where} has no field for {datatype}; expected the elements' bytes in raw_input_contents.")
    name, wide = _FIELDS[datatype]
    for field, _ in contents.ListFields():
        if field.name != name:
            raise BadRequestError(f"{where}.{field.name} has elements; those of {datatype} stand in {name}.")
    elements, count = getattr(contents, name), math.prod(shape)
    where = f"{where}.{name}"
    if len(elements) != count:
        raise BadRequestError(f"{where} has {len(elements)} elements; shape {list(shape)} needs {count}.")
    if datatype == "BYTES":
        return _decode_texts(elements, where).reshape(shape)
    numbers: Array = np.fromiter(elements, wide, count)
    dtype = DATATYPES[datatype]
    if dtype == numbers.dtype:
        return numbers.reshape(shape)
    limits = np.iinfo(dtype)
    outside = (numbers < limits.min) | (numbers > limits.max)
    if outside.any():
        index = int(outside.argmax())
        raise BadRequestError(f"{where}[{index}] is {numbers[index]}; {datatype} holds {limits.min} to {limits.max}.")
    return numbers.astype(dtype).reshape(shape)


def _decode_texts(elements: Sequence[bytes], where: str) -> Array:
    texts: Array = np.empty(len(elements), object)
    for index, element in enumerate(elements):
        try:
            texts[index] = element.decode()
        except UnicodeDecodeError as exc:
            raise BadRequestError(f"{where}[{index}] is not UTF-8: {exc}. BYTES elements are texts here.") from None
    return texts


def write_answer(
    title: tuple[str, int], signature: Signature, request_id: str, answers: Outputs, start: int, stop: int, call: Call
) -> bytes:
    """
    Write an answer.

    Args:
        title: Model and number of the version that computed it.
        signature: Of that version.
        request_id: Of the request.
        answers: What was computed.
        start: First row that is the request's own.
        stop: Behind its last one.
        call: Says which outputs are wanted, and how.

    Returns:
        A `ModelInferResponse` as it goes over the wire.
    """
    model, number = title
    message = ModelInferResponse(model_name=model, model_version=str(number), id=request_id)
    for position in call.outputs:
        spec = signature.outputs[position]
        output = message.outputs.add(name=spec.name, datatype=spec.datatype, shape=answers.shape(position, start, stop))
        if call.binary:
            message.raw_output_contents.append(write_tensor(answers.part(position, start, stop)))
            continue
        values: Sequence[Any] = answers.values(position, start, stop)
        if spec.datatype == "BYTES":
            values = [text.encode() for text in values]
        getattr(output.contents, _FIELDS[spec.datatype][0]).extend(values)
    return bytes(message.SerializeToString())
