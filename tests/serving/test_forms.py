"""Words that were read before: whatever stands between them is read as it would be without having met them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood.registry.content import Content, FileEntry
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.protocol.forms import _KEPT
from lastgood.tensors import TensorSpec

NUMBERS = {"FP32": st.floats(width=32, allow_nan=False), "INT8": st.integers(-130, 130), "FP16": st.floats(-7e4, 7e4) | st.integers(-9, 9)}


def make_codec(datatype: str = "FP32") -> Codec:
    """Give the codec of a model with one input."""
    spec = TensorSpec("x", datatype, (-1, -1))
    return Codec("m", 7, Content((FileEntry("model.onnx", 0, "0" * 64),), (spec,), (spec,), 0), joins=True)


def read(codec: Codec, body: bytes, *, whole: bool = False) -> Any:
    """Read a body; the error's text where it is wrong. ``whole`` keeps the quick readers out."""
    try:
        call = codec.decode(body, head_bytes=b"%d" % len(body)) if whole else codec.decode(body)
    except BadRequestError as exc:
        return str(exc)
    return call.inputs[0].dtype, call.inputs[0].tolist(), call.id, call.key, call.rows, tuple(call.outputs), call.timeout_seconds


@settings(max_examples=150)
@given(
    data=st.data(), datatype=st.sampled_from(sorted(NUMBERS)), more=st.sampled_from([{}, {"id": "[1,2]"}, {"parameters": {"timeout": 9}}])
)
def test_numbers_between_known_words_are_read_as_between_new_ones(data: st.DataObject, datatype: str, more: dict[str, Any]) -> None:
    """Also after other numbers, too many or few of them, numbers out of range, and what is none."""
    codec = make_codec(datatype)
    rows, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    for _ in range(5):
        size = rows * width + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
        numbers: list[Any] = data.draw(st.lists(NUMBERS[datatype], min_size=size, max_size=size))
        if numbers and data.draw(st.integers(0, 9)) == 0:
            numbers[0] = data.draw(st.sampled_from([None, "1", True, [1], "]", 1e400]))
        tensor = {"name": "x", "datatype": datatype, "shape": [rows, width], "data": numbers}
        body = json.dumps({"inputs": [tensor], **more}, separators=separators).encode()
        assert read(codec, body, whole=True) == read(codec, body)


@pytest.mark.parametrize(
    "form",
    [
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[%s]}]}',
        '{"parameters":{"data":[%s]},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4]}]}',
        '{"inputs":[{"name":"x","datatype":"FP32","data":[3,4],"shape":[%s]}]}',
        '{"parameters":{"note":"\\"data\\":[%s]"},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4]}]}',
        '{"parameters":{"data":"","note":"[%s]"},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4]}]}',
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[%s],"data":[3,4]}]}',
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4],"data":[%s]}]}',
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[%s]]}]}',
    ],
)
def test_a_list_somewhere_else_is_not_taken_for_the_input(form: str) -> None:
    """Whatever the words say, in a text or in another field; numbers that were there before among them."""
    codec = make_codec()
    for numbers in ("3,4", "3,4", "1,2", "3,4", "2,1", "5,6"):
        body = (form % numbers).encode()
        assert read(codec, body, whole=True) == read(codec, body)


def test_words_that_come_once_each_push_out_none_that_come_often() -> None:
    """A client whose requests all differ costs the others nothing, and little memory."""
    codec = make_codec()
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4]}]}'
    codec.decode(body)
    codec.decode(body)
    for number in range(3 * _KEPT):
        codec.decode(body.replace(b'{"inputs"', b'{"parameters":{"n":%d},"inputs"' % number))
    forms = codec._forms
    assert [form.shape for form in forms._known.values()] == [(1, 2)]
    assert len(forms._met) == _KEPT
    np.testing.assert_array_equal(codec.decode(body.replace(b"[3,4]", b"[5,6]")).inputs[0], [[5, 6]])
