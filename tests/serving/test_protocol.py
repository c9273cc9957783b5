"""The protocol's bodies: what is right comes through exactly, what is wrong is named."""

import json
import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lastgood.registry.content import Content, FileEntry
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.protocol.longlists import NotPlainError, cut_out, read_numbers
from lastgood.serving.gateway.protocol.plain import PlainReader
from lastgood.serving.gateway.protocol.signature import Call
from lastgood.tensors import DATATYPES, TensorSpec

FILES = (FileEntry("model.onnx", 0, "0" * 64),)


def make_codec(*inputs: TensorSpec, joins: bool = True) -> Codec:
    """Give the codec of a model whose outputs are like its inputs."""
    return Codec("m", 7, Content(FILES, inputs, inputs, 0 if joins else None), joins=joins)


def make_body(*inputs: dict[str, Any], **more: Any) -> bytes:
    """Encode a request."""
    return json.dumps({"inputs": inputs, **more}).encode()


def describe(call: Call) -> tuple[Any, ...]:
    """Give all of a request but its tensors."""
    return call.id, call.key, call.rows, tuple(call.outputs), call.binary, call.timeout_seconds


def make_array(datatype: str) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Give arrays that JSON can hold, with a batch axis."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    if datatype == "BYTES":
        return hnp.arrays(
            np.dtype(object), shapes, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=9), fill=st.nothing()
        )
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return hnp.arrays(DATATYPES[datatype], shapes, elements=finite or None)


@pytest.mark.parametrize("datatype", DATATYPES)
@settings(max_examples=30)
@given(data=st.data(), nested=st.booleans())
def test_every_datatype_comes_through_exactly(datatype: str, nested: bool, data: st.DataObject) -> None:  # noqa: FBT001
    """Flat or nested, in and out again: no element changes."""
    array = data.draw(make_array(datatype))
    spec = TensorSpec("x", datatype, (-1,) * array.ndim)
    codec = make_codec(spec)
    elements = array.tolist() if nested else array.ravel().tolist()
    call = codec.decode(make_body({"name": "x", "datatype": datatype, "shape": list(array.shape), "data": elements}))
    np.testing.assert_array_equal(array, call.inputs[0], strict=True)
    assert array.shape[0] == call.rows
    answer = json.loads(codec.answers.write("id", Outputs([call.inputs[0]], call.rows, joined=True), 0, call.rows, call)[0])
    again = codec.decode(make_body(*answer["outputs"]))
    np.testing.assert_array_equal(array, again.inputs[0], strict=True)


@pytest.mark.parametrize(("datatype", "element"), [("FP32", 3), ("INT64", -3), ("BOOL", True), ("BYTES", "three")])
def test_a_scalar_may_come_without_its_list(datatype: str, element: object) -> None:
    """Where the shape is empty, an element means the same by itself and in a list of one."""
    codec = make_codec(TensorSpec("x", datatype, ()), joins=False)
    for data in (element, [element]):
        (array,) = codec.decode(make_body({"name": "x", "datatype": datatype, "shape": [], "data": data})).inputs
        assert ((), element) == (array.shape, array.item())


@pytest.mark.parametrize(
    ("data", "message"),
    [([[3]], "nested 2 deep; shape .* needs one element"), ([], "has 0 elements"), (None, "got null"), ("3", "Expected float, got str")],
)
def test_a_scalar_is_one_element(data: object, message: str) -> None:
    """None, two, deeper or other ones are refused."""
    with pytest.raises(BadRequestError, match=message):
        make_codec(TensorSpec("x", "FP32", ()), joins=False).decode(make_body({"name": "x", "datatype": "FP32", "shape": [], "data": data}))


def test_an_id_may_have_any_letters() -> None:
    """Only control characters are refused: not spaces of other scripts, nor marks."""
    name = "größe \u2028\u200d 🙂"
    assert name == make_codec(TensorSpec("x", "FP32", (1, 2))).decode(make_body(X, id=name)).id


X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
WRONG: list[tuple[bytes, str]] = [
    (b"", "body is empty"),
    (b"{", "not JSON"),
    (b"[]", "The body: Expected object, got array"),
    (b"{}", "missing required field inputs"),
    (b'{"inputs": 3}', "inputs: Expected array, got int"),
    (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, NaN]}]}', r"not JSON: .*byte \d+.*no NaN"),
    (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, -Infinity]}]}', "no NaN and no infinity"),
    (b'{"inputs": ' + b"[" * 100_000, r"inputs\[0\]: Expected object, got array"),
    (b'{"parameters": {"x": ' + b"[" * 100_000, "nested too deep"),
    (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ' + b"[" * 100_000, "nested too deep"),
    (b"\xff\xfe", "not JSON"),
    (make_body(X, id=7), "id: Expected str"),
    (make_body(X, id="x" * 300), "id has 300 characters"),
    (make_body(X, id="a\nb"), r"id has the control character '\\n' at position 1"),
    (make_body(X, id="\x9b2J"), r"id has the control character '\\x9b' at position 0"),
    (make_body(), "inputs lacks 'x'"),
    (make_body({**X, "name": "z"}), r"inputs\[0\]\.name is 'z'"),
    (make_body(X, X), r"inputs\[1\]\.name is 'x', which was given before"),
    (make_body({**X, "datatype": "FP64"}), r"inputs\[0\]\.datatype is 'FP64'; input 'x' is FP32"),
    (make_body({**X, "shape": [1, 3]}), r"inputs\[0\]\.shape is \[1, 3\]"),
    (make_body({**X, "shape": [2]}), r"inputs\[0\]\.shape is \[2\]"),
    (make_body({**X, "shape": [-1, 2]}), r"inputs\[0\]\.shape is \[-1, 2\]"),
    (make_body({**X, "shape": [1.5, 2]}), r"inputs\[0\]\.shape\[0\]: Expected int, got float"),
    (make_body({**X, "shape": [10**30, 2]}), "inputs"),
    (make_body({**X, "data": [1, 2, 3]}), r"inputs\[0\]\.data has 3 elements; shape \[1, 2\] needs 2"),
    (make_body({**X, "data": [[1, 2, 3]]}), r"inputs\[0\]\.data has a list of 3 where"),
    (make_body({**X, "data": [[1], [2]]}), r"inputs\[0\]\.data has a list of 2 where"),
    (make_body({**X, "data": [[[1, 2]]]}), "nested 3 deep"),
    (make_body({**X, "data": [1, [2]]}), r"inputs\[0\]\.data\[1\]: Expected float, got array"),
    (make_body({**X, "data": 5}), "nested 0 deep"),
    (make_body({**X, "data": None}), "nested 0 deep"),
    (make_body({**X, "data": [1, "2"]}), r"inputs\[0\]\.data\[1\]: Expected float, got str"),
    (make_body({**X, "data": [1, True]}), r"inputs\[0\]\.data\[1\]: Expected float, got bool"),
    (make_body({**X, "data": [1, 1e39]}), r"inputs\[0\]\.data\[1\] is 1e\+39; FP32 holds"),
    (
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 1e999]}]}',
        r"inputs\[0\]\.data\[1\]: Number out of range",
    ),
    (make_body({key: value for key, value in X.items() if key != "data"}), r"inputs\[0\]\.data is missing"),
    (make_body({key: value for key, value in X.items() if key != "shape"}), "missing required field shape"),
    (make_body(X, outputs=[{"name": "q"}]), r"outputs\[0\]\.name is 'q'"),
    (make_body(X, outputs=[{"name": "x"}, {"name": "x"}]), r"outputs\[1\]\.name is 'x', which was asked for before"),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_body_is_refused_by_the_fields_name(body: bytes, message: str) -> None:
    """Each mistake has a sentence that names the field."""
    with pytest.raises(BadRequestError, match=message):
        make_codec(TensorSpec("x", "FP32", (-1, 2))).decode(body)


@pytest.mark.parametrize(
    ("datatype", "value", "message"),
    [
        ("UINT8", 300, "[0] is 300; UINT8 holds 0 to 255"),
        ("UINT8", -1, "[0] is -1; UINT8 holds 0 to 255"),
        ("INT8", 128, "[0] is 128; INT8 holds -128 to 127"),
        ("INT16", -40_000, "[0] is -40000; INT16 holds"),
        ("INT32", 1.5, "[0]: Expected int, got float"),
        ("INT32", 2**31, "[0] is 2147483648; INT32 holds"),
        ("INT64", 2**63, "[0] is 9223372036854775808; INT64 holds"),
        ("UINT64", 2**64, "[0] is 18446744073709551616; UINT64 holds"),
        ("UINT64", -1, "[0] is -1; UINT64 holds"),
        ("FP16", 70_000, "[0] is 70000.0; FP16 holds"),
        ("BOOL", 1, "[0]: Expected bool, got int"),
        ("BYTES", 1, "[0]: Expected str, got int"),
    ],
)
def test_a_value_out_of_its_datatypes_range_is_named(datatype: str, value: object, message: str) -> None:
    """The element, its value and the range are in the sentence."""
    body = make_body({"name": "x", "datatype": datatype, "shape": [1], "data": [value]})
    with pytest.raises(BadRequestError, match=re.escape(f"inputs[0].data{message}")):
        make_codec(TensorSpec("x", datatype, (-1,))).decode(body)


def test_inputs_must_have_the_same_rows() -> None:
    """A batch is one length in all inputs."""
    codec = make_codec(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,)))
    body = make_body(
        {"name": "b", "datatype": "FP32", "shape": [2], "data": [1, 2]}, {"name": "a", "datatype": "FP32", "shape": [1], "data": [1]}
    )
    with pytest.raises(BadRequestError, match="Input 'b' has 2 rows, 'a' has 1"):
        codec.decode(body)


def test_only_requests_of_equal_shape_share_a_key() -> None:
    """Where a size besides the first varies it is part of the key; a model without a batch axis joins nothing."""
    spec = TensorSpec("x", "FP32", (-1, -1))
    wide = make_body({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]})
    narrow = make_body({"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]})
    codec = make_codec(spec)
    assert codec.decode(wide).key != codec.decode(narrow).key
    assert codec.decode(wide).key == codec.decode(wide).key
    assert make_codec(spec, joins=False).decode(wide).key is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "inputs"]), inner, max_size=5)
    ),
    max_leaves=12,
)
near = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries({"name": st.just("x"), "datatype": st.just("FP32"), "shape": values, "data": values}), max_size=2
        )
    }
)


@settings(max_examples=150)
@given(st.binary(max_size=60) | (values | near).map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_decoder(body: bytes) -> None:
    """Whatever comes is a request or a BadRequestError with a sentence."""
    try:
        call = make_codec(TensorSpec("x", "FP32", (-1, 2))).decode(body)
    except BadRequestError as exc:
        sentence = str(exc)
    else:
        sentence = f"{call.inputs[0].shape == (call.rows, 2)}."
    assert sentence.endswith(".")
    assert sentence != "False."


NUMBERS = st.one_of(
    st.integers(-200, 200),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=2),
)
MORE = st.dictionaries(st.sampled_from(["id", "parameters"]), st.sampled_from(["x", {"timeout": 5}, {"binary_data_output": True}]))


@settings(max_examples=400)
@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(-1, 3), max_size=3), st.integers(0, 9), MORE, st.data())
def test_a_plain_request_is_read_as_by_the_full_reader(
    datatype: str, shape: list[int], extra: int, more: dict[str, Any], data: st.DataObject
) -> None:
    """The quick way takes nothing that the full one refuses, and reads the same of what it takes."""
    kinds = data.draw(st.sampled_from([NUMBERS, st.integers(0, 100), st.floats(-1e3, 1e3)]))
    size = abs(math.prod(shape)) if extra < 8 else extra
    body = make_body({"name": "x", "datatype": datatype, "shape": shape, "data": [data.draw(kinds) for _ in range(size)]}, **more)
    spec = TensorSpec("x", datatype, (-1,) * len(shape))
    codec = make_codec(spec, joins=bool(shape))
    try:
        call = codec.decode(body, head_bytes=str(len(body)).encode())  # which the quick way leaves alone
    except BadRequestError:
        with pytest.raises(BadRequestError):
            codec.decode(body)
        assert PlainReader([spec]).read(body) is None or more
        return
    quick = codec.decode(body)
    np.testing.assert_array_equal(quick.inputs[0], call.inputs[0], strict=True)
    assert describe(quick) == describe(call)
    if size and datatype != "BYTES" and datatype[0] != "U" and kinds is not NUMBERS:
        event("plain" if PlainReader([spec]).read(body) is not None else "not plain")


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 9)), min_size=1, max_size=3), st.text()
)
def test_long_lists_of_numbers_are_cut_out_and_read_as_they_are(lists: list[list[float]], name: str) -> None:
    """Whatever texts stand around them; one that was read before stays as it is."""
    inputs = [{"name": name, "data": numbers} for numbers in lists]
    body = msgspec.json.encode({"inputs": inputs, "id": name})
    cut = cut_out(body, len(lists))
    assert cut is not None
    found = [read_numbers(own) for own in cut.lists]
    assert [np.array(numbers, np.float64).tolist() for numbers in lists] == [array.tolist() for array in found]
    assert msgspec.json.decode(cut.rest) == {"inputs": [{"name": name, "data": []} for _ in lists], "id": name}


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs": [{"data" : [1, 2]}]}',  # another spelling: left to the other readers
        rb'{"inputs":[{"x\"data":[1,2]}]}',  # the end of another key
        b'{"inputs":[{"data":[1,2],"data":[3]}]}',  # twice
        b'{"inputs":[{"data":"x"}]}',
        b'{"inputs":[{"data":[1,2',
        b'"data":[1]',
    ],
)
def test_what_might_be_mistaken_is_not_cut_out(text: bytes) -> None:
    """Then the body is read whole."""
    assert cut_out(text, 1) is None


@pytest.mark.parametrize("inside", [b"[1,[2]]", b"[true]", b'["1"]', b"[1 2]", b"[null]", b"[1e400]", b"[,]"])
def test_a_list_of_something_else_is_not_read(inside: bytes) -> None:
    """The full reader says what is wrong with it, if anything is."""
    cut = cut_out(b'{"inputs":[{"data":%s}]}' % inside, 1)
    assert cut is not None
    with pytest.raises(NotPlainError):
        read_numbers(cut.lists[0])


@given(
    st.integers(0, 2**32),
    st.sampled_from([1.0, 1e-30, 1e30]),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    st.sampled_from(["FP16", "FP32", "FP64"]),
)
def test_a_long_body_is_read_as_a_short_one_is(seed: int, scale: float, special: list[float], datatype: str) -> None:
    """The elements are those that the full reader gives, or both refuse them."""
    data = [*(np.random.default_rng(seed).normal(size=500) * scale).tolist(), *special]
    spec = TensorSpec("x", datatype, (-1,))
    codec = make_codec(spec)
    body = msgspec.json.encode({"inputs": [{"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}]})
    try:
        call = codec.decode(body, head_bytes=str(len(body)).encode())
    except BadRequestError:
        assert PlainReader([spec]).read(body) is None
    else:
        np.testing.assert_array_equal(codec.decode(body).inputs[0], call.inputs[0], strict=True)
        assert PlainReader([spec]).read(body) is not None
