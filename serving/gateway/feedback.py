"""Labels as clients send them: what the answers to earlier requests should have been."""

from typing import Annotated

import msgspec

from lastgood.serving.gateway.errors import BadRequestError


class Label(msgspec.Struct, forbid_unknown_fields=True):
    """One request's: its id, as the answer has it, and the class it should have named."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    label: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """Some of them, in any order, however late; of several for one request the first one counts."""

    labels: Annotated[list[Label], msgspec.Meta(max_length=10_000)]


_decoder = msgspec.json.Decoder(Feedback)


def read_feedback(body: bytes) -> Feedback:
    """
    Read the body of ``POST /v2/models/{model}/feedback``.

    Raises:
        BadRequestError: It is something else.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequestError(
            f'This is no feedback: {exc}. Expected {{"labels": [{{"id": "ID OF A REQUEST", "label": 3}}, ...]}}, at most 10,000 of them.'
        ) from exc
