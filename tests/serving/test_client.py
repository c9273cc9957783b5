"""The client against a real data plane: arrays come through, who answered is known, connections are kept, errors are of their own class."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from lastgood.errors import NotFoundError, UsageError
from lastgood.registry.content import Content, FileEntry
from lastgood.serving.client import Answer, AsyncPredictor, BadAnswerError, ClientClosedError, ModelFailedError, Predictor
from lastgood.serving.client.calls import names_binary
from lastgood.serving.client.tensors import HEAD_BYTES, decode_answer, encode_request
from lastgood.serving.gateway.http.listening import load_tls
from lastgood.serving.gateway.http.messages import Request, Respond, Response
from lastgood.serving.gateway.http.server import Server
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.settings import FrontSettings, Settings
from lastgood.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
Array = np.ndarray[Any, Any]

# Two rows of three for every datatype, with its extremes.
VALUES: dict[str, Array] = {
    name: np.array([[np.iinfo(dtype).min, 0, 1], [2, 3, np.iinfo(dtype).max]], dtype)
    if dtype.kind in "iu"
    else np.array([[np.finfo(dtype).min, -0.0, 1.5], [0.1, np.finfo(dtype).tiny, np.finfo(dtype).max]], dtype)
    for name, dtype in DATATYPES.items()
    if dtype.kind in "iuf"
}
VALUES["BOOL"] = np.array([[True, False, True], [False, False, True]])
VALUES["BYTES"] = np.array([["", "a", "ü\0€"], ["日本", "\n", "x" * 999]], object)


def make_settings(folder: Path, port: int, **more: Any) -> Settings:
    """Give the settings of a project whose gateway listens there."""
    return Settings(project=folder, home=folder / "home", port_rest=port, **more)


def same(wanted: Array, got: Array) -> bool:
    """Say whether two arrays are of one type, shape and content."""
    return bool(wanted.dtype == got.dtype and wanted.shape == got.shape and wanted.tolist() == got.tolist())


@pytest.mark.parametrize("binary", [None, True, False])
def test_every_datatype_goes_and_comes(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path, *, binary: bool | None) -> None:
    """All at once, in JSON and in binary form, from a thread and from a loop."""
    inputs = {f"in_{name}": array for name, array in VALUES.items()}

    def check(answer: Answer) -> None:
        for name, array in VALUES.items():
            assert same(array, answer.outputs[f"out_{name}"]), name
        assert ("m", 1, "live", 1, "own") == (answer.model, answer.version, answer.role, answer.tries, answer.id)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.all_datatypes(list(VALUES)))
            where = make_settings(tmp_path, gateway.plane.port)

            def ask() -> Answer:
                with Predictor(where) as predictor:
                    return predictor.predict("m", inputs, binary=binary, request_id="own")

            check(await asyncio.to_thread(ask))
            async with AsyncPredictor(where) as predictor:
                check(await predictor.predict("m", inputs, binary=binary, request_id="own"))
                some = await predictor.predict("m", inputs, binary=binary, outputs=["out_FP16"])
                assert ["out_FP16"] == list(some.outputs)
                assert some.to_json()["outputs"][0] == {
                    "name": "out_FP16",
                    "datatype": "FP16",
                    "shape": [2, 3],
                    "data": VALUES["FP16"].ravel().tolist(),
                }

    run(scenario)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [True, False])
@examples(max_examples=25)
@given(data=st.data())
def test_what_the_client_writes_the_gateway_reads_and_the_other_way_round(datatype: str, data: st.DataObject, *, binary: bool) -> None:
    """Any shape, empty ones too; arrays that are not contiguous, and of the other byte order."""
    from hypothesis.extra import numpy as hnp

    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
        array: Array = data.draw(hnp.arrays(np.dtype(object), shape, elements=texts, fill=st.nothing()))
    else:
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
        array = data.draw(hnp.arrays(dtype, shape, elements=finite))
        if data.draw(st.booleans()):
            array = array.astype(dtype.newbyteorder("S"))
    array = array.T if data.draw(st.booleans()) else array[::-1]
    spec = TensorSpec("x", datatype, (-1,) * array.ndim)
    codec = Codec("m", 7, Content((FileEntry("model.onnx", 0, "0" * 64),), (spec,), (spec,), 0), joins=False)
    body, headers = encode_request({"x": array}, binary=binary, request_id="i")
    head = headers.get(HEAD_BYTES)
    call = codec.decode(body, None, None if head is None else head.encode())
    assert same(array.astype(dtype), call.inputs[0].astype(dtype))
    answer, length = codec.answers.write("i", Outputs([call.inputs[0]], call.rows, joined=False), 0, call.rows, call)
    back = decode_answer(answer, {} if length is None else {HEAD_BYTES: str(length)}, tries=1, seconds=0.0)
    assert same(array.astype(dtype), back.outputs["x"])
    assert (7, "i", None) == (back.version, back.id, back.role)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1j]), "complex128; expected texts or one of: bool, uint8"),
        (np.array([None], object), r"None \(NoneType\); expected texts"),
        (np.array([b"\xff"]), "not UTF-8"),
        (np.array(["\ud800"], object), "not UTF-8"),
        (np.array([0], "M8[s]"), "datetime64"),
    ],
)
def test_what_the_protocol_does_not_hold_is_not_sent(array: Array, words: str) -> None:
    """The input is named, with what was expected."""
    with pytest.raises(UsageError, match=f"Input 'x' .*{words}"):
        encode_request({"x": array}, binary=True)


def test_json_does_not_make_null_of_nan() -> None:
    """The encoder would."""
    with pytest.raises(UsageError, match="binary form"):
        encode_request({"x": np.array([np.nan])}, binary=False)


GOOD = b'{"model_name":"m","model_version":"1","id":"i","outputs":[{"name":"y","datatype":"%s","shape":%s,%s}]}'


@pytest.mark.parametrize(
    ("text", "tail", "head", "words"),
    [
        (b"<html>", b"", None, "no answer of the Open Inference Protocol"),
        (b"[" * 9999, b"", None, "no answer"),
        (b'{"model_name":"m","outputs":[]}', b"", None, "no answer"),
        (GOOD % (b"FP32", b"[2]", b'"data":[1]'), b"", None, "1 elements for shape"),
        (GOOD % (b"FP32", b"[1]", b'"data":[null]'), b"", None, "null among them"),
        (GOOD % (b"FP32", b"[1]", b'"data":["a"]'), b"", None, "'y'"),
        (GOOD % (b"INT8", b"[1]", b'"data":[300]'), b"", None, "300"),
        (GOOD % (b"FP32", b"[-1]", b'"data":[1]'), b"", None, "shape"),
        (GOOD % (b"FP8", b"[1]", b'"data":[1]'), b"", None, "FP8"),
        (GOOD % (b"FP32", b"[1]", b'"x":1'), b"", None, "neither data"),
        (GOOD % (b"FP32", b"[1]", b'"parameters":{"binary_data_size":4}'), b"abc", "", "3 bytes are left"),
        (GOOD % (b"FP32", b"[1]", b'"parameters":{"binary_data_size":true}'), b"a", "", "True"),
        (GOOD % (b"FP32", b"[2]", b'"parameters":{"binary_data_size":4}'), b"abcd", "", "4 bytes for shape"),
        (GOOD % (b"FP32", b"[1]", b'"parameters":{"binary_data_size":4}'), b"abcde", "", "1 bytes follow"),
        (GOOD % (b"BOOL", b"[1]", b'"parameters":{"binary_data_size":1}'), b"\x02", "", "truth value"),
        (GOOD % (b"BYTES", b"[1]", b'"parameters":{"binary_data_size":5}'), b"\x01\0\0\0\xff", "", "utf-8"),
        (GOOD % (b"BYTES", b"[1000000000000]", b'"parameters":{"binary_data_size":1}'), b"a", "", "too few"),
        (GOOD % (b"FP32", b"[1]", b'"data":[1]'), b"", "999999", "it has"),
        (GOOD % (b"FP32", b"[1]", b'"data":[1]'), b"", "-1", "'-1'"),
    ],
)
def test_an_answer_that_is_none_is_told_of(text: bytes, tail: bytes, head: str | None, words: str) -> None:
    """Whatever listens there: no traceback, no array of something else."""
    headers = {} if head is None else {HEAD_BYTES: head or str(len(text))}
    with pytest.raises(BadAnswerError, match=words):
        decode_answer(text + tail, headers, tries=1, seconds=0.0)


def test_versions_and_roles_of_a_rollout_are_told(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path) -> None:
    """The answer names who computed it and is its own; one version can be asked for."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            live = tools.make_lane(await gateway.add(versions.linear(2, 1), 1), "baseline")
            gateway.route(live, tools.make_lane(await gateway.add(versions.linear(3, 5), 2), "candidate"), share=0.5)
            x = np.array([[1, 2, 3]], np.float32)
            async with AsyncPredictor(make_settings(tmp_path, gateway.plane.port), traffic="evaluation") as predictor:
                answers = await asyncio.gather(*(predictor.predict("m", {"x": x}) for _ in range(40)))
                assert {(1, "baseline"), (2, "candidate")} == {(answer.version, answer.role) for answer in answers}
                for answer in answers:
                    wanted = 2 * x + 1 if answer.version == 1 else 3 * x + 5
                    assert same(wanted, answer.outputs["y"])
                assert [2] * 5 == [(await predictor.predict("m", {"x": x}, version=2)).version for _ in range(5)]
                assert ["1", "2"] == (await predictor.metadata("m", version=2))["versions"]
                with pytest.raises(NotFoundError, match="no version '9'"):
                    await predictor.predict("m", {"x": x}, version=9)
                with pytest.raises(NotFoundError, match="'a/b"):
                    await predictor.metadata("a/b")

    run(scenario)


def test_a_client_that_was_left_says_so(run: Run, tmp_path: Path) -> None:
    """In a sentence, as an error of the client's own, and nothing is tried again."""
    with Predictor(make_settings(tmp_path, 9)) as predictor:
        pass
    with pytest.raises(ClientClosedError, match="This client is closed: its `with` block has ended"):
        predictor.predict("m", {"x": np.zeros((1, 3), np.float32)})

    async def scenario() -> None:
        async with AsyncPredictor(make_settings(tmp_path, 9)) as asker:
            pass
        for asking in (asker.metadata("m"), asker.predict("m", {}), asker.feed_back("m", {})):
            with pytest.raises(ClientClosedError, match="This client is closed"):
                await asking

    run(scenario)


def test_what_is_wrong_with_a_request_is_a_usage_error(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path) -> None:
    """Shape, type, size and token: the gateway's own sentence, and never tried again."""

    async def scenario() -> None:
        async with tools.open_gateway(HttpLimits(body_bytes=100_000), token="secret") as gateway:
            await gateway.serve(versions.linear())
            (tmp_path / "token").write_text("secret\n")
            x = np.zeros((1, 3), np.float32)
            async with AsyncPredictor(make_settings(tmp_path, gateway.plane.port, token_file=tmp_path / "token")) as predictor:
                assert 1 == (await predictor.predict("m", {"x": x})).version
                with pytest.raises(UsageError, match=r"inputs\[0\].datatype is 'FP64'"):
                    await predictor.predict("m", {"x": x.astype(np.float64)})
                with pytest.raises(UsageError, match="100000"):
                    await predictor.predict("m", {"x": np.zeros((50_000, 3), np.float32)})
                request = {"id": "q", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
                answer = await predictor.ask("m", request)
                assert ("q", [[3.0, 5.0, 7.0]]) == (answer.id, answer.outputs["y"].tolist())
                answer = await predictor.ask("m", {**request, "parameters": {"binary_data_output": True}})
                assert [[3.0, 5.0, 7.0]] == answer.outputs["y"].tolist()
                with pytest.raises(UsageError, match="sequence_id"):
                    await predictor.ask("m", {**request, "parameters": {"sequence_id": 1}})
                assert [3.0, 5.0, 7.0] == (await predictor.infer("m", request["inputs"]))["outputs"][0]["data"]  # type: ignore[arg-type]
            async with AsyncPredictor(make_settings(tmp_path, gateway.plane.port)) as predictor:
                with pytest.raises(UsageError, match="bearer token"):
                    await predictor.predict("m", {"x": x}, binary=True)

    run(scenario)


def test_a_model_that_fails_on_a_request_is_an_error_of_its_own(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path) -> None:
    """It says which version it was; NaN in binary form is sent, and refused by name."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.gather())
            async with AsyncPredictor(make_settings(tmp_path, gateway.plane.port)) as predictor:
                with pytest.raises(ModelFailedError, match=r"Version 1 \(live\) said so"):
                    await predictor.predict("m", {"x": np.array([[7]], np.int64)})
            await gateway.serve(versions.linear())
            async with AsyncPredictor(make_settings(tmp_path, gateway.plane.port)) as predictor:
                with pytest.raises(UsageError, match="NaN or infinity"):
                    await predictor.predict("m", {"x": np.array([[1, np.nan, 3]], np.float32)})

    run(scenario)


@pytest.mark.parametrize(
    ("described", "wanted"),
    [
        ({"extensions": ["binary_tensor_data"]}, True),
        ({"extensions": []}, False),
        ({}, False),
        ({"extensions": "binary_tensor_data"}, False),
    ],
)
def test_binary_tensors_are_sent_where_the_server_names_them(described: dict[str, Any], *, wanted: bool) -> None:
    """A list with the extension's name, and nothing that only looks like it."""
    assert wanted == names_binary(described)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_connection_and_one_more_request_serve_a_hundred_calls(run: Run, tmp_path: Path, *, asynchronous: bool) -> None:
    """What the server takes is asked once; without the extension, requests are JSON."""
    seen: list[tuple[str, str]] = []
    connections = set()
    answer = b'{"model_name":"m","model_version":"3","id":"","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[2]}]}'

    def serve(request: Request, respond: Respond) -> None:
        connections.add(id(request.connection))
        seen.append((request.path, request.headers.get(b"content-type", b"").decode()))
        respond(Response(200, b'{"name":"other","version":"1","extensions":[]}' if request.path == "/v2" else answer))

    async def scenario() -> None:
        server = Server(serve)
        await server.start()
        where = make_settings(tmp_path, server.port)
        x = {"x": np.zeros(1, np.float32)}

        def ask() -> list[Answer]:
            with Predictor(where) as predictor:
                return [predictor.predict("m", x) for _ in range(100)]

        if asynchronous:
            async with AsyncPredictor(where) as predictor:
                answers = [await predictor.predict("m", x) for _ in range(100)]
        else:
            answers = await asyncio.to_thread(ask)
        await server.stop(1)
        assert [(3, None, 1, [2.0])] * 100 == [(own.version, own.role, own.tries, own.outputs["y"].tolist()) for own in answers]

    run(scenario)
    assert [("/v2", ""), *[("/v2/models/m/infer", "application/json")] * 100] == seen
    assert 1 == len(connections)


def test_both_clients_trust_the_gateway_they_are_set_up_with(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path) -> None:
    """And no other one's certificate, which is not tried again."""
    for name in ("own", "foreign"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        paths = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*command, "-subj", f"/CN={name}", *paths], check=True, capture_output=True)

    async def scenario() -> None:
        server = Server(
            lambda _, respond: respond(Response(200, b'{"name":"m"}')), tls=load_tls(tmp_path / "own.pem", tmp_path / "own.key")
        )
        await server.start()

        def front(name: str) -> Settings:
            own = FrontSettings(tls_certificate=tmp_path / f"{name}.pem", tls_key=tmp_path / f"{name}.key")
            return make_settings(tmp_path, server.port, front=own)

        async with AsyncPredictor(front("own")) as predictor:
            assert {"name": "m"} == await predictor.metadata("m")
        async with AsyncPredictor(front("foreign")) as predictor:
            with pytest.raises(Exception, match="certificate verify failed") as caught:
                await predictor.metadata("m")
            assert "Tried" not in str(caught.value)
        await server.stop(1)

    run(scenario)
