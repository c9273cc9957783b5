"""The JSON of requests and answers, without the tensors' elements."""

from typing import Any, Generic, TypeVar

import msgspec

from lastgood.serving.gateway.errors import BadRequestError

Element = TypeVar("Element")


class GivenInput(msgspec.Struct):
    """One input of a request; ``data`` is not looked into yet."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class WantedOutput(msgspec.Struct):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """A request."""

    inputs: list[GivenInput]
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: dict[str, Any] | None = None


class PlainInput(msgspec.Struct, Generic[Element]):
    """One input with its elements."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Element]
    parameters: dict[str, Any] | None = None


class PlainRequest(msgspec.Struct, Generic[Element]):
    """A request with its elements."""

    inputs: list[PlainInput[Element]]
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(InferRequest)


def decode(body: memoryview) -> InferRequest:
    """
    Read a request's JSON.

    Raises:
        BadRequestError: It is none, or a field is missing or of another type; names the field.
    """
    if not len(body):
        raise BadRequestError("The body is empty; expected a JSON object with 'inputs'.")
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `$")
        raise BadRequestError(f"{path.strip('.`') or 'The body'}: {what.replace('`', '')}.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deep; expected lists as deep as the tensor's shape.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        text = bytes(body)
        hint = " JSON knows no NaN and no infinity." if b"NaN" in text or b"Infinity" in text else ""
        raise BadRequestError(f"The body is not JSON: {exc}.{hint}") from None


def read_size(parameters: dict[str, Any], where: str) -> int | None:
    """
    Give the bytes that an input has behind the JSON, None where it has none there.

    Raises:
        BadRequestError: The parameter is no size.
    """
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise BadRequestError(f"{where}.parameters.binary_data_size is {size!r:.40}; expected a number of bytes.")
    return size


def read_flag(parameters: dict[str, Any] | None, name: str, where: str) -> bool | None:
    """
    Give a parameter that is true or false, None where it is not there.

    Raises:
        BadRequestError: It is something else.
    """
    flag = None if parameters is None else parameters.get(name)
    if flag is None or isinstance(flag, bool):
        return flag
    raise BadRequestError(f"{where}.{name} is {flag!r:.40}; expected true or false.")
