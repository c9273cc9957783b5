"""The binary form of tensors: exact in and out, mixed with JSON, and what is wrong with it is named."""

import json
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lastgood.registry.content import Content, FileEntry
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.protocol.binary import write_tensor
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Client, Reply, Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
FILES = (FileEntry("model.onnx", 0, "0" * 64),)


def make_codec(*inputs: TensorSpec) -> Codec:
    """Give the codec of a model whose outputs are like its inputs."""
    return Codec("m", 7, Content(FILES, inputs, inputs, 0), joins=True)


def make_body(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]], **more: Any) -> tuple[bytes, bytes]:
    """Encode a request with binary tensors; give the body and its header's value."""
    parts = [write_tensor(array) for _, array in tensors.values()]
    inputs = [
        {"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": {"binary_data_size": len(part)}}
        for (name, (datatype, array)), part in zip(tensors.items(), parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(parts), str(len(head)).encode()


def make_array(datatype: str) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Give arrays with a batch axis of one row or more."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    if datatype == "BYTES":
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
        return hnp.arrays(np.dtype(object), shapes, elements=texts, fill=st.nothing())
    return hnp.arrays(DATATYPES[datatype], shapes)


@pytest.mark.parametrize("datatype", DATATYPES)
@settings(max_examples=30)
@given(data=st.data())
def test_every_datatype_comes_through_bit_for_bit(datatype: str, data: st.DataObject) -> None:
    """In and out again, NaN included; and once more, by what was kept of the head."""
    array = data.draw(make_array(datatype))
    codec = make_codec(TensorSpec("x", datatype, (-1,) * array.ndim))
    body, head_bytes = make_body({"x": (datatype, array)}, parameters={"binary_data_output": True})
    call = codec.decode(body, None, head_bytes)
    assert write_tensor(array) == write_tensor(call.inputs[0])
    other = np.roll(array.ravel(), 1).reshape(array.shape)
    body, head_bytes = make_body({"x": (datatype, other)}, parameters={"binary_data_output": True})
    again = codec.decode(body, None, head_bytes)
    assert write_tensor(other) == write_tensor(again.inputs[0])
    assert (again.key, again.rows, again.binary) == (call.key, call.rows, call.binary)
    answer, length = codec.answers.write("id", Outputs([call.inputs[0]], call.rows, joined=True), 0, call.rows, call)
    assert length is not None
    output = json.loads(answer[:length])["outputs"][0]
    assert (list(array.shape), len(answer) - length) == (output["shape"], output["parameters"]["binary_data_size"])
    assert write_tensor(array) == answer[length:]


def test_json_and_binary_stand_side_by_side() -> None:
    """One input of each kind; of two outputs the one that is asked for in binary form, against what the request says for all."""
    codec = make_codec(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "INT16", (-1, 2)))
    b = np.array([[1, -2], [3, 4]], np.int16)
    inputs = [
        {"name": "b", "datatype": "INT16", "shape": [2, 2], "parameters": {"binary_data_size": 8}},
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [0.5, 1.5]},
    ]
    wanted = [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}]
    head = json.dumps({"inputs": inputs, "outputs": wanted, "parameters": {"binary_data_output": True}}).encode()
    call = codec.decode(head + b.tobytes(), None, str(len(head)).encode())
    assert [0.5, 1.5] == call.inputs[0].tolist()
    assert b.tolist() == call.inputs[1].tolist()
    # The second of two requests in one batch gets its own row.
    answer, length = codec.answers.write("id", Outputs(call.inputs, 2, joined=True), 1, 2, call)
    outputs = json.loads(answer[:length])["outputs"]
    assert ([1.5], "data" in outputs[1]) == (outputs[0]["data"], False)
    assert b[1:].tobytes() == answer[length:]


ROW = np.array([[1, 2]], np.float32)
WRONG: list[tuple[dict[str, Any], bytes, bytes | None, str]] = [
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes(), b"x", "Inference-Header-Content-Length is 'x'; expected a number"),
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes(), b"-1", "expected a number of bytes"),
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes(), b"9" * 30, "expected a number of bytes"),
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes(), b"5000", "is 5000; the body has"),
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes()[:5], None, "binary_data_size is 8; 5 bytes are left"),
    ({"parameters": {"binary_data_size": 5}}, ROW.tobytes()[:5], None, r"inputs\[0\] has 5 bytes; shape \[1, 2\] of FP32 needs 8"),
    ({"parameters": {"binary_data_size": 8}}, ROW.tobytes() + b"!", None, "1 bytes follow the last input"),
    ({"parameters": {"binary_data_size": -8}}, ROW.tobytes(), None, "binary_data_size is -8; expected a number"),
    ({"parameters": {"binary_data_size": True}}, ROW.tobytes(), None, "binary_data_size is True"),
    ({"parameters": {"binary_data_size": 8}, "data": [1, 2]}, ROW.tobytes(), None, "has data and binary_data_size"),
    ({"shape": [2**40, 2**40], "parameters": {"binary_data_size": 8}}, ROW.tobytes(), None, r"inputs\[0\]\.shape is"),
    ({"shape": [2**62, 2], "parameters": {"binary_data_size": 8}}, ROW.tobytes(), None, "has 8 bytes; shape"),
]


@pytest.mark.parametrize(("changes", "tail", "head_bytes", "message"), WRONG, ids=[message[:30] for *_, message in WRONG])
def test_what_is_wrong_is_named(changes: dict[str, Any], tail: bytes, head_bytes: bytes | None, message: str) -> None:
    """Lengths that do not agree, in every place that has one."""
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], **changes}]}).encode()
    with pytest.raises(BadRequestError, match=message):
        make_codec(TensorSpec("x", "FP32", (-1, 2))).decode(
            head + tail, None, str(len(head)).encode() if head_bytes is None else head_bytes
        )


@pytest.mark.parametrize(
    ("datatype", "tail", "message"),
    [
        ("BYTES", struct.pack("<I", 3) + b"ab", "goes past the end"),
        ("BYTES", struct.pack("<I", 2) + b"\xff\xfe", "UTF-8"),
        ("BYTES", struct.pack("<I", 1) + b"a" + b"more", "has 9 bytes; its 1 texts take 5"),
        ("BYTES", b"abc", "too few for 1 texts"),
        ("BOOL", b"\x02", "a byte above 1"),
    ],
)
def test_elements_that_the_datatype_does_not_hold_are_refused(datatype: str, tail: bytes, message: str) -> None:
    """Truth values above one would be no truth values inside of a model."""
    head = json.dumps(
        {"inputs": [{"name": "x", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": len(tail)}}]}
    ).encode()
    with pytest.raises(BadRequestError, match=message):
        make_codec(TensorSpec("x", datatype, (-1,))).decode(head + tail, None, str(len(head)).encode())


@settings(max_examples=200)
@given(st.binary(max_size=40), st.binary(max_size=10))
def test_no_bytes_break_the_decoder(tail: bytes, head_bytes: bytes) -> None:
    """Whatever follows the JSON, wherever it is said to begin."""
    head = b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": %d}}]}' % len(tail)
    codec = make_codec(TensorSpec("x", "BYTES", (-1,)))
    for header in (head_bytes, str(len(head)).encode()):
        try:
            rows, sentence = codec.decode(head + tail, None, header).rows, "."
        except BadRequestError as exc:
            rows, sentence = 2, str(exc)
        assert (2, ".") == (rows, sentence[-1])


async def ask(client: "Client", array: np.ndarray[Any, Any], **more: Any) -> "Reply":
    """Ask model m for one FP32 tensor named x, in binary form."""
    body, head_bytes = make_body({"x": ("FP32", array)}, **more)
    return await client.post("/v2/models/m/infer", body, f"inference-header-content-length: {head_bytes.decode()}\r\n")


def test_binary_requests_are_joined_with_others_and_answered_in_binary(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Over real sockets; the header of the answer says where its tensors begin."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                assert ["binary_tensor_data"] == (await client.get("/v2")).json["extensions"]
                x = np.arange(6, dtype=np.float32).reshape(2, 3)
                reply = await ask(client, x, parameters={"binary_data_output": True})
                assert ("application/octet-stream", 200) == (reply.headers["content-type"], reply.status)
                length = int(reply.headers["inference-header-content-length"])
                assert json.loads(reply.body[:length])["outputs"][0]["shape"] == [2, 3]
                assert (2 * x + 1).tobytes() == reply.body[length:]
                assert (2 * x + 1).ravel().tolist() == (await ask(client, x)).data

    run(scenario)


def test_inputs_that_are_not_finite_are_the_clients_doing(run: Run, versions: "Versions", tools: "Tools") -> None:
    """400 where the answer is not finite either; no version is charged, and neighbours in the batch are answered."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                reply = await ask(client, np.array([[1, np.nan, 3]], np.float32))
                assert (400, True) == (reply.status, "the inputs hold NaN or infinity" in reply.json["error"])
                assert [3, 5, 7] == (await client.infer([1, 2, 3])).data
            assert (2, 0, 0) == (lane.tally.requests, lane.tally.invalid, lane.tally.failed)

    run(scenario)


def test_a_request_without_rows_is_answered_without_the_model(run: Run, versions: "Versions", tools: "Tools") -> None:
    """What models make of nothing differs, and a batch of none has no time for each row."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.infer([], [0, 3])
                assert ([0, 3], []) == (reply.json["outputs"][0]["shape"], reply.data)
                assert 200 == (await ask(client, np.zeros((0, 3), np.float32), parameters={"binary_data_output": True})).status
            assert 0 == lane.tally.requests

    run(scenario)
