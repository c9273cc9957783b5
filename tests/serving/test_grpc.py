"""The Open Inference Protocol over gRPC, over real sockets and in front of real replicas."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lastgood.errors import ConfigurationError
from lastgood.ports import free_ports
from lastgood.registry.content import Content, FileEntry
from lastgood.serving.gateway.errors import BadRequestError, OpenAddressError, PortTakenError
from lastgood.serving.gateway.grpc.codec import read_call
from lastgood.serving.gateway.grpc.messages import METHODS, SERVICE, ModelInferRequest, find_message
from lastgood.serving.gateway.grpc.server import GrpcServer
from lastgood.serving.gateway.grpc.statuses import CODES, REASONS
from lastgood.serving.gateway.http.router import STATUSES as REST_CODES
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.protocol.signature import Signature
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rest import _STATUSES as REST_REASONS
from lastgood.serving.gateway.telemetry.telemetry import Telemetry
from lastgood.settings import Settings
from lastgood.telemetry import TelemetrySettings
from lastgood.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Gateway, Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
Program = Callable[[str], tuple[str, ...]]
Code = grpc.StatusCode
STATUS = health_pb2.HealthCheckResponse
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
SLOW = "time.sleep(0.5 if (feeds['x'] == 5).any() else 0)\nreturn super().run(feeds)"
HANGS = "if (feeds['x'] == 666).any():\n    time.sleep(600)\nreturn super().run(feeds)"
DIES = "if (feeds['x'] == 666).any():\n    os.kill(os.getpid(), signal.SIGKILL)\nreturn super().run(feeds)"
X = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
TYPED = {**X, "contents": {"fp32_contents": [1, 2, 3]}}
LONG = {**X, "contents": {"fp32_contents": [5, 5, 5]}}  # takes SLOW half a second
WORST = {**X, "contents": {"fp32_contents": [666, 0, 0]}}


class Asker:
    """A client with one channel."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.health = health_pb2_grpc.HealthStub(channel)

    def call(self, method: str, request: Any = None, **options: Any) -> Any:
        """Begin a call; a request that is bytes goes over the wire as it is."""
        kind, answer = find_message(f"{method}Request"), find_message(f"{method}Response")
        given = request if isinstance(request, bytes) else kind(**(request or {})).SerializeToString()
        begin = self.channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=answer.FromString)
        return begin(given, timeout=options.pop("timeout", 20), **options)

    def infer(self, *inputs: dict[str, Any], model: str = "m", **fields: Any) -> Any:
        """Begin an inference."""
        return self.call("ModelInfer", {"model_name": model, "inputs": inputs, **fields})

    async def fail(self, call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Give status, details and trailing metadata of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call
        return failure.value.code(), failure.value.details() or "", dict(failure.value.trailing_metadata())


@asynccontextmanager
async def listen(gateway: "Gateway | Reception", **options: Any) -> AsyncIterator[tuple[GrpcServer, Asker]]:
    """Open a port over a gateway's reception, and a channel to it."""
    server = GrpcServer(gateway if isinstance(gateway, Reception) else gateway.reception, port=0, **options)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, Asker(channel)
    finally:
        await server.drain(1)


def read_values(answer: Any, position: int = 0) -> Any:
    """Give the elements of an output that has them in its contents."""
    output = answer.outputs[position]
    assert [FIELDS[output.datatype]] == [field.name for field, _ in output.contents.ListFields()]
    return list(getattr(output.contents, FIELDS[output.datatype]))


def make_values(datatype: str) -> Any:
    """Give six elements with the datatype's limits among them."""
    if datatype == "BOOL":
        return [True, False, True, True, False, False]
    if datatype == "BYTES":
        return ["", "a", "é", "\0", "日本", "z" * 300]
    dtype = DATATYPES[datatype]
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([limits.min, limits.max, 0, 1, 2, 3], dtype).tolist()


def write_raw(values: Sequence[Any], datatype: str) -> bytes:
    """Write elements as the protocol has them, without the product's help."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
    return np.array(values, DATATYPES[datatype].newbyteorder("<")).tobytes()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate signed with it, for loopback."""
    certificate, key = folder / "own.pem", folder / "own.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


# --- tensors ------------------------------------------------------------------------------------------------------------


def test_every_datatype_goes_through_as_elements_and_as_bytes(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Limits included, all inputs in one request; answers have the form of the request, and half precision has bytes only."""
    typed = list(FIELDS)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.all_datatypes(list(DATATYPES)))
            heads = [{"name": f"in_{name}", "datatype": name, "shape": [2, 3]} for name in DATATYPES]
            raw = [write_raw(make_values(name), name) for name in DATATYPES]
            answer = await asker.infer(*heads, raw_input_contents=raw)
            assert raw == list(answer.raw_output_contents)
            assert [(f"out_{name}", name, [2, 3]) for name in DATATYPES] == [(o.name, o.datatype, list(o.shape)) for o in answer.outputs]
            assert not any(output.HasField("contents") for output in answer.outputs)
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.all_datatypes(typed))
            inputs, sent = [], []
            for name in typed:
                values = make_values(name)
                elements = [value.encode() for value in values] if name == "BYTES" else values
                sent.append(elements)
                inputs.append({"name": f"in_{name}", "datatype": name, "shape": [2, 3], "contents": {FIELDS[name]: elements}})
            answer = await asker.infer(*inputs, id="7")
            assert ("m", "1", "7", []) == (answer.model_name, answer.model_version, answer.id, list(answer.raw_output_contents))
            for position in range(len(sent)):
                assert sent[position] == read_values(answer, position)
            wanted = await asker.infer(*inputs, outputs=[{"name": "out_INT8"}, {"name": "out_BOOL"}])
            assert ["out_INT8", "out_BOOL"] == [output.name for output in wanted.outputs]

    run(scenario)


def test_half_precision_in_the_answer_makes_it_raw(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Elements are refused where the datatype has no field, with what to do."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.identity("FP16"))
            half = {"name": "x", "datatype": "FP16", "shape": [1, 3]}
            code, text, _ = await asker.fail(asker.infer({**half, "contents": {"fp32_contents": [1, 2, 3]}}))
            assert (Code.INVALID_ARGUMENT, True) == (code, "raw_input_contents" in text)
            answer = await asker.infer(half, raw_input_contents=[write_raw([1, 2, 3], "FP16")])
            assert [write_raw([1, 2, 3], "FP16")] == list(answer.raw_output_contents)
        inputs, outputs = [TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP16", (-1, 3))]
        cast = tools.build_model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)], inputs, outputs)
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.write(cast, inputs, outputs))
            answer = await asker.infer(TYPED)
            assert [write_raw([1, 2, 3], "FP16")] == list(answer.raw_output_contents)

    run(scenario)


def test_requests_without_rows_are_answered_without_the_model(run: Run, versions: "Versions", tools: "Tools") -> None:
    """In both forms; nothing is counted for the judge."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear())
            for more in EMPTY:
                answer = await asker.infer({**X, "shape": [0, 3]}, **more)
                assert [0, 3] == list(answer.outputs[0].shape)
            assert 0 == lane.tally.requests

    run(scenario)


def test_answers_are_each_their_requests_and_come_from_joined_batches(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Distinct values of one to four rows, 400 at once on one connection."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear())

            async def ask(number: int) -> None:
                rows = 1 + number % 4
                values = [float(100 * number + place) for place in range(3 * rows)]
                answer = await asker.infer({**X, "shape": [rows, 3]}, raw_input_contents=[write_raw(values, "FP32")])
                assert [2 * value + 1 for value in values] == np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()

            await asyncio.gather(*(ask(number) for number in range(400)))
            assert 400 == lane.tally.requests > lane.tally.batches

    run(scenario)


PAIR = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("t", "BYTES", (-1, -1)))
FILE = FileEntry("model.onnx", 1, "0" * 64)
SIGNATURE = Signature("m", 1, Content((FILE,), PAIR, (TensorSpec("y", "FP32", (-1, 3)),), 0, None), joins=True)


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 3))
def test_no_bytes_get_past_the_codec_but_as_a_call_or_a_sentence(junk: bytes, place: int, cut: int) -> None:
    """Requests with bytes replaced: decoded, or refused, and never anything else."""
    text = {"name": "t", "datatype": "BYTES", "shape": [1, 2], "contents": {"bytes_contents": [b"a", b"b"]}}
    whole = ModelInferRequest(model_name="m", id="1", inputs=[TYPED, text], outputs=[{"name": "y"}]).SerializeToString()
    try:
        message = ModelInferRequest.FromString(whole[:place] + junk + whole[place + cut :])
    except DecodeError:
        return
    try:
        call = read_call(message, SIGNATURE)
    except BadRequestError:
        return
    assert [np.dtype(np.float32), np.dtype(object)] == [array.dtype for array in call.inputs]


EMPTY: tuple[dict[str, Any], ...] = ({}, {"raw_input_contents": [b""]})  # no elements, in both forms
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs lacks 'x'"),
    "another name": ({"inputs": [{**TYPED, "name": "z"}]}, "inputs[0].name is 'z'"),
    "another datatype": ({"inputs": [{**TYPED, "datatype": "FP64"}]}, "inputs[0].datatype is 'FP64'"),
    "no datatype": ({"inputs": [{**TYPED, "datatype": "BF16"}]}, "inputs[0].datatype is 'BF16'"),
    "another shape": ({"inputs": [{**TYPED, "shape": [3]}]}, "inputs[0].shape is [3]"),
    "a negative size": ({"inputs": [{**TYPED, "shape": [-1, 3]}]}, "inputs[0].shape is [-1, 3]"),
    "no elements": ({"inputs": [X]}, "fp32_contents has 0 elements; shape [1, 3] needs 3"),
    "too many": ({"inputs": [{**TYPED, "shape": [1 << 62, 3]}]}, "has 3 elements"),
    "another field": ({"inputs": [{**X, "contents": {"int_contents": [1, 2, 3]}}]}, "those of FP32 stand in fp32_contents"),
    "an id with a control character": ({"inputs": [TYPED], "id": "a\x1b"}, "id has the control character '\\x1b' at position 1"),
    "twice": ({"inputs": [TYPED, TYPED]}, "inputs[1].name is 'x', which was given before"),
    "no such output": ({"inputs": [TYPED], "outputs": [{"name": "q"}]}, "outputs[0].name is 'q'"),
    "an output twice": ({"inputs": [TYPED], "outputs": [{"name": "y"}, {"name": "y"}]}, "each output once"),
    "raw for some": ({"inputs": [X], "raw_input_contents": [b"", b""]}, "raw_input_contents has 2 tensors, inputs has 1"),
    "both forms": ({"inputs": [TYPED], "raw_input_contents": [bytes(12)]}, "inputs[0] has contents beside raw_input_contents"),
    "too few bytes": ({"inputs": [X], "raw_input_contents": [bytes(11)]}, "raw_input_contents[0] has 11 bytes"),
    "a long id": ({"inputs": [TYPED], "id": "i" * 257}, "id has 257 characters"),
    "a sequence": ({"inputs": [TYPED], "parameters": {"sequence_id": {"int64_param": 1}}}, "parameters.sequence_id"),
}


def test_what_is_wrong_is_named_and_charged_to_nobody(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Every one INVALID_ARGUMENT; parameters that are not known are ignored, whatever their type."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear())
            for name, (fields, words) in BAD.items():
                code, text, _ = await asker.fail(asker.call("ModelInfer", {"model_name": "m", **fields}))
                assert (Code.INVALID_ARGUMENT, True) == (code, words in text), (name, text)
            code, text, _ = await asker.fail(asker.call("ModelInfer", b"\xff\xff"))
            assert (Code.INVALID_ARGUMENT, True) == (code, "no ModelInferRequest" in text)
            assert 0 == lane.tally.requests
            assert {("production", "bad_request"): len(BAD)} == gateway.pools[0].meter.role("live").requests
            known = [("bool_param", True), ("int64_param", -1), ("string_param", "a"), ("double_param", 0.5), ("uint64_param", 1)]
            parameters = {f"p{index}": {kind: value} for index, (kind, value) in enumerate(known)}
            answer = await asker.infer({**TYPED, "parameters": parameters}, parameters=parameters)
            assert [3, 5, 7] == read_values(answer)

    run(scenario)


def test_elements_that_their_datatype_cannot_hold_are_refused(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Small integers travel in wide fields, and texts as bytes; shapes without elements may be absurd."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.all_datatypes(["INT8", "UINT16", "BYTES"]))
            head = {name: {"name": f"in_{name}", "datatype": name, "shape": [1, 3]} for name in ("INT8", "UINT16", "BYTES")}
            for name, elements, words in (
                ("INT8", [0, 0, -129], "int_contents[2] is -129; INT8 holds -128 to 127"),
                ("UINT16", [0, 65536, 0], "uint_contents[1] is 65536; UINT16 holds 0 to 65535"),
                ("BYTES", [b"", b"\xff", b""], "bytes_contents[1] is not UTF-8"),
            ):
                code, text, _ = await asker.fail(asker.infer({**head[name], "contents": {FIELDS[name]: elements}}))
                assert (Code.INVALID_ARGUMENT, True) == (code, words in text), text
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.identity("INT64", (-1, -1, -1)))
            absurd = {"name": "x", "datatype": "INT64", "shape": [0, 1 << 62, 1 << 62]}
            for more in EMPTY:
                code, text, _ = await asker.fail(asker.infer(absurd, **more))
                assert (Code.INVALID_ARGUMENT, True) == (code, "inputs[0].shape" in text), text

    run(scenario)


def test_nan_in_the_request_is_the_requests_doing(run: Run, versions: "Versions", tools: "Tools") -> None:
    """In both forms; an answer that is not finite by itself is the version's, and charged to it."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.logarithm())
            head = {"name": "x", "datatype": "FP32", "shape": [1, 1]}
            for call in (
                asker.infer(head, raw_input_contents=[write_raw([float("nan")], "FP32")]),
                asker.infer({**head, "contents": {"fp32_contents": [float("nan")]}}),
            ):
                code, text, metadata = await asker.fail(call)
                assert (Code.INVALID_ARGUMENT, True) == (code, "NaN" in text)
                assert ("1", "live") == (metadata["x-lastgood-version"], metadata["x-lastgood-role"])
            assert (2, 0) == (lane.tally.requests, lane.tally.invalid)
            code, text, _ = await asker.fail(asker.infer({**head, "contents": {"fp32_contents": [-1]}}))
            assert (Code.INTERNAL, 1) == (code, lane.tally.invalid)

    run(scenario)


# --- who answers --------------------------------------------------------------------------------------------------------


def test_calls_take_part_in_a_rollout_as_rest_requests_do(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Dealt by the route unless a version is named; labelled by what the client says; the answer says who gave it."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            main = tools.make_lane(await gateway.add(versions.linear(), 1), "baseline")
            candidate = tools.make_lane(await gateway.add(versions.linear(3), 2), "candidate")
            gateway.route(main, candidate, share=1.0)
            fields = {"model_name": "m", "inputs": [TYPED]}
            call = asker.call("ModelInfer", fields, metadata=(("x-lastgood-traffic", "evaluation"), ("x-lastgood-slice", "old")))
            assert ("2", [4, 7, 10]) == ((await call).model_version, read_values(await call))
            assert {"x-lastgood-version": "2", "x-lastgood-role": "candidate"}.items() <= dict(await call.trailing_metadata()).items()
            assert {("evaluation", "ok"): 1} == gateway.pools[1].meter.role("candidate").requests
            named = asker.call("ModelInfer", {**fields, "model_version": "1"})
            assert "1" == (await named).model_version
            assert (0, 1) == (main.tally.requests, candidate.tally.requests)
            for more, words in (({"model_name": "n"}, "there are: m"), ({"model_version": "9"}, "there are: 1, 2")):
                code, text, _ = await asker.fail(asker.call("ModelInfer", {**fields, **more}))
                assert (Code.NOT_FOUND, True) == (code, words in text)
            metadata = await asker.call("ModelMetadata", {"name": "m", "version": "2"})
            assert (["1", "2"], "onnxruntime_onnx") == (list(metadata.versions), metadata.platform)
            assert [("x", "FP32", [-1, 3])] == [(own.name, own.datatype, list(own.shape)) for own in metadata.inputs]

    run(scenario)


def test_a_call_belongs_to_its_clients_trace_and_gets_its_line(run: Run, versions: "Versions", tools: "Tools", tmp_path: Path) -> None:
    """As over REST: the same trace and flags behind the answer, or the refusal, with a span of the gateway's; none where none was sent."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    sent = (("traceparent", f"00-{trace}-{parent}-01"),)
    telemetry = Telemetry(TelemetrySettings(access_log=1.0), tmp_path)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway, telemetry=telemetry) as (_, asker):
            await gateway.serve(versions.linear())
            fields = {"model_name": "m", "inputs": [TYPED]}
            call = asker.call("ModelInfer", fields, metadata=sent)
            await call
            own = dict(await call.trailing_metadata())["traceparent"].split("-")
            assert (["00", trace, "01"], True) == ([*own[:2], own[3]], own[2] != parent)
            _, _, metadata = await asker.fail(asker.call("ModelInfer", {**fields, "model_name": "n"}, metadata=sent))
            assert trace in metadata["traceparent"]
            for given in ((), (("traceparent", f"00-{trace}-{parent}-zz"),)):
                plain = asker.call("ModelInfer", fields, metadata=given)
                await plain
                assert "traceparent" not in dict(await plain.trailing_metadata())

    run(scenario)
    telemetry.close()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "access.jsonl").read_text("utf-8").splitlines()]
    assert [(200, trace), (404, trace), (200, None), (200, None)] == [(own["status"], own.get("trace_id")) for own in lines]
    assert {f"/{SERVICE}/ModelInfer"} == {own["path"] for own in lines}
    assert ("m", 1, "live", True) == (lines[0]["model"], lines[0]["version"], lines[0]["role"], lines[0]["compute_seconds"] > 0)


def test_who_is_ready_is_told_by_server_and_model(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A model whose versions are all down is not ready, and asking it is to be tried again; one that is not there is an error."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.linear())
            assert (await asker.call("ServerLive")).live
            assert (await asker.call("ServerReady")).ready
            assert "lastgood" == (await asker.call("ServerMetadata")).name
            assert (await asker.call("ModelReady", {"name": "m", "version": "1"})).ready
            gateway.reception.suspend("m")
            assert not (await asker.call("ServerReady")).ready
            assert not (await asker.call("ModelReady", {"name": "m"})).ready
            code, _, metadata = await asker.fail(asker.infer(TYPED))
            assert (Code.UNAVAILABLE, "1") == (code, metadata["retry-after"])
            assert Code.NOT_FOUND == (await asker.fail(asker.call("ModelReady", {"name": "n"})))[0]
            assert Code.UNIMPLEMENTED == (await asker.fail(asker.channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"")))[0]

    run(scenario)


def test_the_same_refusals_mean_the_same_over_both_protocols() -> None:
    """For each kind of error and each reason: gRPC's code for the status that REST has."""
    same = {400: Code.INVALID_ARGUMENT, 404: Code.NOT_FOUND, 409: Code.FAILED_PRECONDITION, 500: Code.INTERNAL}
    same |= {502: Code.INTERNAL, 503: Code.UNAVAILABLE, 504: Code.DEADLINE_EXCEEDED}
    found = dict(CODES)
    assert {kind: same[status] for kind, status in REST_CODES} == {kind: found.get(kind, Code.INTERNAL) for kind, _ in REST_CODES}
    assert {r: same[s] for r, s in REST_REASONS.items() if r != "disconnected"} == {r: c for r, c in REASONS.items() if r != "disconnected"}


# --- time ---------------------------------------------------------------------------------------------------------------


def test_a_client_without_patience_gives_way_and_blames_nobody(
    run: Run, versions: "Versions", tools: "Tools", make_program: Program
) -> None:
    """Its deadline ends the request here too, be it computed or waiting; so do its cancelling and Triton's parameter."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear(), program=make_program(SLOW))
            requests = gateway.pools[0].meter.role("live").requests

            def ended() -> int:
                return sum(count for (_, outcome), count in requests.items() if outcome in {"disconnected", "timeout"})

            calls = [asker.call("ModelInfer", {"model_name": "m", "inputs": [LONG]}, timeout=0.2) for _ in range(4)]
            assert [Code.DEADLINE_EXCEEDED] * 4 == [(await asker.fail(call))[0] for call in calls]
            await tools.wait_until(lambda: ended() == 4, 0.25)
            begun = lane.tally.requests
            cancelled = asker.infer(LONG)
            await tools.wait_until(lambda: lane.tally.requests > begun)
            cancelled.cancel()
            await tools.wait_until(lambda: ended() == 5, 0.25)
            await tools.wait_until(lambda: gateway.pools[0].in_flight == 0)
            code, text, _ = await asker.fail(asker.infer(LONG, parameters={"timeout": {"int64_param": 100_000}}))
            assert (Code.DEADLINE_EXCEEDED, "m@1: no answer within 0.1 s, the time-out of the request.") == (code, text)
            assert [3, 5, 7] == read_values(await asker.infer(TYPED))
            assert (0, 0) == (lane.tally.failed, lane.tally.invalid)

    run(scenario)


def test_who_finds_no_room_is_told_when_to_come_again(run: Run, versions: "Versions", tools: "Tools", make_program: Program) -> None:
    """UNAVAILABLE, a moment after it was decided; those that wait are answered."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear(), program=make_program(SLOW), limits=PoolLimits(queue_requests=1))
            calls = []
            for _ in range(3):  # two that are handed over, and one that waits
                calls.append(asker.infer(LONG))
                await tools.wait_until(lambda: lane.tally.requests + gateway.pools[0].waiting == len(calls))
            began = asyncio.get_running_loop().time()
            code, text, metadata = await asker.fail(asker.infer(TYPED))
            assert (Code.UNAVAILABLE, True, True) == (code, int(metadata["retry-after"]) >= 1, "1 requests waiting" in text)
            assert asyncio.get_running_loop().time() - began >= 0.09
            assert [[11, 11, 11]] * 3 == [read_values(await call) for call in calls]
            assert 3 == lane.tally.requests

    run(scenario)


def test_past_the_gateways_own_deadline_the_version_is_charged(
    run: Run, versions: "Versions", tools: "Tools", make_program: Program
) -> None:
    """As over REST; a client that has more patience gets the gateway's sentence."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            lane = await gateway.serve(versions.linear(), program=make_program(HANGS), limits=PoolLimits(deadline_seconds=0.3))
            code, text, _ = await asker.fail(asker.infer(WORST))
            assert (Code.DEADLINE_EXCEEDED, "m@1: no answer within 0.3 s.") == (code, text)
            assert 1 == lane.tally.failed

    run(scenario)


def test_a_request_that_kills_replicas_is_told_when_to_come_again(
    run: Run, versions: "Versions", tools: "Tools", make_program: Program
) -> None:
    """UNAVAILABLE, and a moment in the metadata."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.linear(), program=make_program(DIES))
            code, text, metadata = await asker.fail(asker.infer(WORST))
            assert (Code.UNAVAILABLE, "1", True) == (code, metadata["retry-after"], "a second replica died" in text)

    run(scenario)


def test_draining_answers_what_came_in_and_takes_nothing_new(run: Run, versions: "Versions", tools: "Tools", make_program: Program) -> None:
    """New calls are told to try again, watchers of health are let go, and the port is closed at the end."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (server, asker):
            lane = await gateway.serve(versions.linear(), program=make_program(SLOW))
            watch = asker.health.Watch(health_pb2.HealthCheckRequest())
            assert STATUS.SERVING == (await watch.read()).status
            calls = [asker.infer(LONG) for _ in range(3)]
            await tools.wait_until(lambda: lane.tally.requests + gateway.pools[0].waiting == 3)
            drained = asyncio.create_task(server.drain(10))
            assert STATUS.NOT_SERVING == (await watch.read()).status
            assert Code.UNAVAILABLE == await watch.code()
            code, text, metadata = await asker.fail(asker.infer(TYPED))
            assert (Code.UNAVAILABLE, "1", True) == (code, metadata["retry-after"], "stopping" in text)
            assert not (await asker.call("ServerReady")).ready
            assert [[11, 11, 11]] * 3 == [read_values(await call) for call in calls]
            async with asyncio.timeout(2):
                await drained
            with pytest.raises(OSError):  # noqa: PT011  # whichever one says that nobody listens
                await asyncio.open_connection("127.0.0.1", server.port)

    run(scenario)


def test_draining_ends_after_its_grace(run: Run, versions: "Versions", tools: "Tools", make_program: Program) -> None:
    """A call that hangs is told to try again, and nobody is charged."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (server, asker):
            lane = await gateway.serve(versions.linear(), program=make_program(HANGS), limits=PoolLimits(deadline_seconds=1))
            call = asker.infer(WORST)
            await tools.wait_until(lambda: lane.tally.requests == 1)
            async with asyncio.timeout(2):
                await server.drain(0.2)
            code, text, metadata = await asker.fail(call)
            assert (Code.UNAVAILABLE, "1", True) == (code, metadata["retry-after"], "stopping" in text)
            assert ({("production", "refused"): 1}, 0) == (gateway.pools[0].meter.role("live").requests, lane.tally.failed)

    run(scenario)


# --- the port -----------------------------------------------------------------------------------------------------------


def test_health_follows_readiness(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Check tells how it is now, Watch each change: a route that comes, a replica that dies and its successor."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            gateway.reception.suspend("m")
            watches = [asker.health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", SERVICE)]

            async def read_both() -> list[int]:
                async with asyncio.timeout(20):
                    return [(await watch.read()).status for watch in watches]

            async def check() -> int:
                answers = [await asker.health.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", SERVICE)]
                assert answers[0] == answers[1]
                return int(answers[0].status)

            assert (STATUS.NOT_SERVING, [STATUS.NOT_SERVING] * 2) == (await check(), await read_both())
            await gateway.serve(versions.linear())
            assert (STATUS.SERVING, [STATUS.SERVING] * 2) == (await check(), await read_both())
            os.kill(gateway.pools[0].pids[0], signal.SIGKILL)
            assert [STATUS.NOT_SERVING] * 2 == await read_both()
            assert ([STATUS.SERVING] * 2, STATUS.SERVING) == (await read_both(), await check())
            code, text, _ = await asker.fail(asker.health.Check(health_pb2.HealthCheckRequest(service="none")))
            assert (Code.NOT_FOUND, True) == (code, SERVICE in text)
            unknown = asker.health.Watch(health_pb2.HealthCheckRequest(service="none"))
            assert STATUS.SERVICE_UNKNOWN == (await unknown.read()).status
            for watch in (*watches, unknown):
                watch.cancel()
            await tools.wait_until(lambda: not gateway.reception.changes._waiting)

    run(scenario)


def test_tools_find_out_what_can_be_called(run: Run, tools: "Tools") -> None:
    """Reflection lists the services and gives messages that a client can be built from."""

    def look(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == set(database.get_services())
            pool = DescriptorPool(database)
            service = pool.FindServiceByName(SERVICE)
            assert list(METHODS) == [method.name for method in service.methods]
            fields = pool.FindMessageTypeByName("inference.ModelInferRequest").fields_by_name
            assert 7 == fields["raw_input_contents"].number
            assert "Check" in pool.FindServiceByName("grpc.health.v1.Health").methods_by_name

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (server, _):
            await asyncio.to_thread(look, server.port)

    run(scenario)


@pytest.mark.parametrize(
    ("value", "let_in"),
    [
        ("Bearer secret", True),
        ("bearer  secret", True),
        ("Basic secret", False),
        ("Bearer secrets", False),
        ("Bearer", False),
        (None, False),
    ],
)
def test_the_token_is_asked_for_by_all_but_health(
    run: Run,
    versions: "Versions",
    tools: "Tools",
    value: str | None,
    let_in: bool,  # noqa: FBT001
) -> None:
    """The same values are let in as over REST; reflection asks for it too."""
    metadata = () if value is None else (("authorization", value),)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway, token="secret") as (_, asker):
            await gateway.serve(versions.linear())
            reflect = asker.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            calls = [
                asker.call("ModelInfer", {"model_name": "m", "inputs": [TYPED]}, metadata=metadata),
                asker.call("ModelMetadata", {"name": "m"}, metadata=metadata),
                reflect(metadata=metadata, timeout=20),
            ]
            if let_in:
                assert [3, 5, 7] == read_values(await calls[0])
                assert "m" == (await calls[1]).name
                await calls[2].write(b"\x3a\x00")  # list_services
                assert SERVICE.encode() in await calls[2].read()
            else:
                assert [Code.UNAUTHENTICATED] * 3 == [await call.code() for call in calls]
            assert (await asker.call("ServerReady")).ready
            assert (await asker.call("ServerLive")).live
            assert STATUS.SERVING == (await asker.health.Check(health_pb2.HealthCheckRequest())).status
            assert STATUS.SERVING == (await asker.health.Watch(health_pb2.HealthCheckRequest()).read()).status

    run(scenario)


def test_messages_that_are_too_much_are_refused(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Over the limit, or compressed: unpacked a small one could be of any size. At the limit it is read."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.linear())
            fits = 16 * 1024 * 1024
            assert Code.INVALID_ARGUMENT == (await asker.fail(asker.call("ModelInfer", bytes(fits))))[0]
            assert Code.RESOURCE_EXHAUSTED == (await asker.fail(asker.call("ModelInfer", bytes(fits + 1))))[0]
            packed = asker.call("ModelInfer", {"model_name": "m", "inputs": [TYPED]}, compression=grpc.Compression.Gzip)
            assert Code.UNIMPLEMENTED == (await asker.fail(packed))[0]
            much = (("x-much", "x" * 20_000),)
            assert Code.RESOURCE_EXHAUSTED == (await asker.fail(asker.call("ServerLive", metadata=much)))[0]
            assert [3, 5, 7] == read_values(await asker.infer(TYPED))

    run(scenario)


def test_a_long_sentence_is_cut_before_clients_choke_on_it(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A version with many inputs lists them all, and a status travels in headers, where clients take some KiB."""
    inputs = [TensorSpec(f"feature_{index:04}", "FP32", (-1, 1)) for index in range(400)]
    outputs = [TensorSpec("y", "FP32", (-1, 1))]
    model = tools.build_model([helper.make_node("Sum", [spec.name for spec in inputs], ["y"])], inputs, outputs)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (_, asker):
            await gateway.serve(versions.write(model, inputs, outputs))
            code, text, _ = await asker.fail(asker.infer())
            assert (Code.INVALID_ARGUMENT, 1000, True) == (code, len(text), text.startswith("inputs lacks 'feature_0000'"))

    run(scenario)


def test_tls_with_the_files_of_the_rest_port(run: Run, tools: "Tools", tmp_path: Path) -> None:
    """A client that trusts the certificate is answered, a plain one is not; TLS before 1.2 is not spoken."""
    certificate, key = make_certificate(tmp_path)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway, tls=(certificate, key)) as (server, plain):
            address = f"127.0.0.1:{server.port}"
            async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(certificate.read_bytes())) as channel:
                assert (await Asker(channel).call("ServerLive")).live
            assert Code.UNAVAILABLE == (await plain.fail(plain.call("ServerLive")))[0]
            old = ssl.create_default_context(cafile=str(certificate))
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=old)
            assert "TLSv1.2" == writer.get_extra_info("ssl_object").version()
            writer.close()

    run(scenario)
    with pytest.raises(ConfigurationError, match=r"own\.none"):
        GrpcServer(Reception(), tls=(certificate, tmp_path / "own.none"))


def test_a_port_that_is_taken_and_an_address_that_is_open_are_sentences(run: Run, tools: "Tools") -> None:
    """A second server does not share the port; without a token it listens on loopback only."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, listen(gateway) as (server, asker):
            with pytest.raises(PortTakenError, match=f"Port {server.port} on 127.0.0.1 is taken by"):
                await GrpcServer(gateway.reception, port=server.port).start()
            assert (await asker.call("ServerLive")).live

    run(scenario)
    with pytest.raises(OpenAddressError):
        GrpcServer(Reception(), "0.0.0.0")


@pytest.mark.slow
def test_the_gateway_serves_it_and_ends_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    """As a program: the port is there, a second gateway is told that it is taken, and the end is quiet."""
    grpc_port, rest, control = free_ports(3)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD_")}
    own = {"HOME": settings.home, "PORT_REST": settings.port_rest, "PORT_CONTROL": settings.port_control, "PORT_GRPC": grpc_port}
    other = {**own, "HOME": tmp_path / "other", "PORT_REST": rest, "PORT_CONTROL": control}

    def start(values: dict[str, Any]) -> "subprocess.Popen[str]":
        variables = {**clean, **{f"LASTGOOD_{name}": str(value) for name, value in values.items()}}
        command = [sys.executable, "-m", "lastgood.serving.gateway"]
        return subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    gateway = start(own)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            live = channel.unary_unary(f"/{SERVICE}/ServerLive", response_deserializer=find_message("ServerLiveResponse").FromString)
            assert live(b"", wait_for_ready=True, timeout=60).live
            second = start(other)
            _, said = second.communicate(timeout=60)
            assert (7, True) == (second.returncode, f"Port {grpc_port}" in said and "serving.port-taken" in said), said
            gateway.terminate()
            out, said = gateway.communicate(timeout=60)
    finally:
        gateway.kill()
    assert (0, False) == (gateway.returncode, "Traceback" in said + out), said
