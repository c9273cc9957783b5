"""Labels as clients send them: what the answers to earlier requests should have been."""

from typing import Annotated

import msgspec

from lastgood.registry.content import Content
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.protocol.signature import ID_LIMIT


class Label(msgspec.Struct, forbid_unknown_fields=True):
    """One request's: its id, as the answer has it, and the class it should have named."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LIMIT)]
    label: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """Some of them, in any order, however late; of several for one request the first one counts."""

    labels: Annotated[list[Label], msgspec.Meta(max_length=10_000)]


_decoder = msgspec.json.Decoder(Feedback)


def read_feedback(body: bytes, content: Content) -> Feedback:
    """
    Read the body of ``POST /v2/models/{model}/feedback``.

    Args:
        body: JSON.
        content: Of the version that answers now.

    Raises:
        BadRequestError: It is something else, or a label is none of the model's classes.
    """
    try:
        feedback = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequestError(
            f'This is no feedback: {exc}. Expected {{"labels": [{{"id": "ID OF A REQUEST", "label": 3}}, ...]}}, at most 10,000 of them.'
        ) from exc
    classes = count_classes(content)
    if classes is None:
        return feedback
    for index, own in enumerate(feedback.labels):
        if own.label >= classes:
            raise BadRequestError(f"labels[{index}].label is {own.label}; the model names one of {classes} classes, 0 to {classes - 1}.")
    return feedback


def count_classes(content: Content) -> int | None:
    """Give how many classes a model tells apart, None where its outputs do not say: their scores are the first table of floats."""
    for spec in content.outputs:
        if spec.datatype.startswith("FP") and len(spec.shape) == 2 and spec.shape[1] != 1:
            return spec.shape[1] if spec.shape[1] > 1 else None
    return None
