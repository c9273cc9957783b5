"""What goes over the wire for each word of a client, and what is made of what comes back; no I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Answer, Array
from lastgood.serving.client.errors import BadAnswerError, error_of
from lastgood.serving.client.retries import Tries
from lastgood.serving.client.tensors import BINARY, decode_answer, encode_request

_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, before it has a deadline."""

    method: str
    path: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


EXTENSIONS: Final = Call("GET", "/v2")


def describe(model: str, version: int | None) -> Call:
    """Ask what a model takes and gives."""
    return Call("GET", _place(model, version))


def infer(model: str, request: Mapping[str, Any], version: int | None, part: str | None) -> Call:
    """
    Ask for an answer with a whole request in JSON.

    Raises:
        UsageError: JSON cannot hold it.
    """
    try:
        body = msgspec.json.encode(request)
    except (TypeError, ValueError, OverflowError) as exc:
        raise UsageError(f"The request cannot be written as JSON: {exc}.") from exc
    return Call("POST", f"{_place(model, version)}/infer", body, {**_JSON, **_slice(part)})


def predict(
    model: str,
    inputs: Mapping[str, Array],
    *,
    binary: bool,
    version: int | None,
    outputs: Sequence[str] | None,
    request_id: str | None,
    part: str | None,
) -> Call:
    """
    Ask for an answer with arrays.

    Raises:
        UsageError: An array cannot be sent.
    """
    body, headers = encode_request(inputs, binary=binary, outputs=outputs, request_id=request_id)
    return Call("POST", f"{_place(model, version)}/infer", body, {**headers, **_slice(part)})


def feed_back(model: str, labels: Mapping[str, int]) -> Call:
    """Tell labels."""
    body = {"labels": [{"id": key, "label": int(label)} for key, label in labels.items()]}
    return Call("POST", f"{_place(model, None)}/feedback", msgspec.json.encode(body), _JSON)


def read_object(response: httpx.Response, tries: Tries) -> dict[str, Any]:
    """
    Give what was answered.

    Raises:
        LastgoodError: The gateway's, of its own class.
        BadAnswerError: It is no JSON object.
    """
    if not response.is_success:
        raise error_of(response, tries.tell())
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadAnswerError(f"What came from {response.url} is no JSON object: {exc}.") from exc


def read_answer(response: httpx.Response, tries: Tries) -> Answer:
    """
    Give an answer's arrays.

    Raises:
        LastgoodError: The gateway's, of its own class.
        BadAnswerError: It is no answer of the protocol.
    """
    if not response.is_success:
        raise error_of(response, tries.tell())
    return decode_answer(response.content, response.headers, tries=tries.count, seconds=tries.elapsed())


def names_binary(server: Mapping[str, Any]) -> bool:
    """Say whether a server's description names the extension for binary tensors."""
    extensions = server.get("extensions")
    return isinstance(extensions, list) and BINARY in extensions


def check_seconds(seconds: float) -> float:
    """
    Give a time to wait for.

    Raises:
        UsageError: It is none.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"The time for an answer is {seconds!r} s; expected a number above 0.")
    return seconds


def _place(model: str, version: int | None) -> str:
    name = f"/v2/models/{quote(model, safe='')}"
    return name if version is None else f"{name}/versions/{version}"


def _slice(part: str | None) -> dict[str, str]:
    return {} if part is None else {"x-lastgood-slice": part}
