"""
The messages of the Open Inference Protocol over gRPC, made from a table: no compiler is needed and no generated file is kept.

Numbers are what goes over the wire. The messages are in a pool of their own, so that a process that has another copy of
them, as `tritonclient` brings one, is not disturbed.

Source: Open Inference Protocol, "open_inference_grpc.proto".
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE: Final = "inference"
SERVICE: Final = f"{PACKAGE}.GRPCInferenceService"
METHODS: Final = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_Fields = tuple[tuple[int, str, str], ...]  # number, name, type; [type] is repeated, {type} a map from texts to it
_TENSOR: Final[_Fields] = ((1, "name", "string"), (2, "datatype", "string"), (3, "shape", "[int64]"))
_PARAMETERS: Final = "{InferParameter}"
_FULL_TENSOR: Final[_Fields] = (*_TENSOR, (4, "parameters", _PARAMETERS), (5, "contents", "InferTensorContents"))
_NAMED: Final[_Fields] = ((1, "name", "string"), (2, "version", "string"))
_CALL: Final[_Fields] = (
    (1, "model_name", "string"),
    (2, "model_version", "string"),
    (3, "id", "string"),
    (4, "parameters", _PARAMETERS),
)

# A message within another stands behind it.
MESSAGES: Final[Mapping[str, _Fields]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ((1, "live", "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ((1, "ready", "bool"),),
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": ((1, "ready", "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (*_NAMED, (3, "extensions", "[string]")),
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": (
        (1, "name", "string"),
        (2, "versions", "[string]"),
        (3, "platform", "string"),
        (4, "inputs", "[ModelMetadataResponse.TensorMetadata]"),
        (5, "outputs", "[ModelMetadataResponse.TensorMetadata]"),
        (6, "properties", "{string}"),
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelInferRequest": (
        *_CALL,
        (5, "inputs", "[ModelInferRequest.InferInputTensor]"),
        (6, "outputs", "[ModelInferRequest.InferRequestedOutputTensor]"),
        (7, "raw_input_contents", "[bytes]"),
    ),
    "ModelInferRequest.InferInputTensor": _FULL_TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": ((1, "name", "string"), (2, "parameters", _PARAMETERS)),
    "ModelInferResponse": (
        *_CALL,
        (5, "outputs", "[ModelInferResponse.InferOutputTensor]"),
        (6, "raw_output_contents", "[bytes]"),
    ),
    "ModelInferResponse.InferOutputTensor": _FULL_TENSOR,
    "InferParameter": (
        (1, "bool_param", "bool"),
        (2, "int64_param", "int64"),
        (3, "string_param", "string"),
        (4, "double_param", "double"),
        (5, "uint64_param", "uint64"),
    ),
    "InferTensorContents": (
        (1, "bool_contents", "[bool]"),
        (2, "int_contents", "[int32]"),
        (3, "int64_contents", "[int64]"),
        (4, "uint_contents", "[uint32]"),
        (5, "uint64_contents", "[uint64]"),
        (6, "fp32_contents", "[float]"),
        (7, "fp64_contents", "[double]"),
        (8, "bytes_contents", "[bytes]"),
    ),
}
_ONEOFS: Final = {"InferParameter": "parameter_choice"}  # messages of which one field at most is set


def describe_file() -> Any:
    """Give the protocol as a compiler would: a `FileDescriptorProto`."""
    file = FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    messages: dict[str, Any] = {}
    for path, fields in MESSAGES.items():
        outer, _, name = path.rpartition(".")
        message = messages[path] = (messages[outer].nested_type if outer else file.message_type).add(name=name)
        choice = _ONEOFS.get(path)
        if choice is not None:
            message.oneof_decl.add(name=choice)
        for number, field, kind in fields:
            added = _add_field(message, f".{PACKAGE}.{path}", number, field, kind)
            if choice is not None:
                added.oneof_index = 0
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for method in METHODS:
        service.method.add(name=method, input_type=f".{PACKAGE}.{method}Request", output_type=f".{PACKAGE}.{method}Response")
    return file


def _add_field(message: Any, path: str, number: int, name: str, kind: str) -> Any:
    """Add a field to the message that ``path`` names."""
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    inner = kind.strip("[]{}")
    if inner != kind:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if kind[0] == "{":
        # A map is a list of entries, a message of its own; compilers name it so.
        title = "".join(word.title() for word in name.split("_")) + "Entry"
        entry: Any = message.nested_type.add(name=title)
        entry.options.map_entry = True
        _set_type(entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL), "string")
        _set_type(entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL), inner)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{path}.{title}"
    else:
        _set_type(field, inner)
    return field


def _set_type(field: Any, kind: str) -> None:
    if kind in MESSAGES:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")


POOL: Final = DescriptorPool()
POOL.Add(describe_file())


def find_message(name: str) -> Any:
    """Give the class of a message, by its name in the package."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ModelInferRequest: Final = find_message("ModelInferRequest")
ModelInferResponse: Final = find_message("ModelInferResponse")
