"""What a user of `tritonclient.grpc` writes; run with its own environment: PORT in, JSON out."""

import asyncio
import json
import queue
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2


def main(port: str) -> None:
    """Ask whatever the client can ask of a server like ours."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = triton.InferInput("x", [2, 3], "FP32").set_data_from_numpy(x)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = client.infer("m", [given], outputs=[triton.InferRequestedOutput("y")], request_id="7", client_timeout=30)
        found: dict[str, object] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("m"),
            "version_ready": client.is_model_ready("m", "1"),
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata("m", as_json=True)["inputs"],
            "sync": [answer.as_numpy("y").tolist(), answer.get_response().id],
            "default": client.infer("m", [given], model_version="1").as_numpy("y").tolist(),
            "async": ask_async(client, given),
            "numbers": dict(list_numbers(service_pb2.DESCRIPTOR.message_types_by_name)),
        }
        try:
            client.infer("m", [triton.InferInput("z", [2, 3], "FP32").set_data_from_numpy(x)])
        except triton.InferenceServerException as exc:
            found["error"] = [exc.status(), exc.message()]
    found["aio"] = asyncio.run(ask_aio(port, x))
    sys.stdout.write(json.dumps(found))


def ask_async(client: triton.InferenceServerClient, given: triton.InferInput) -> object:
    """The same with a callback."""
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    client.async_infer("m", [given], callback=lambda result, error: answers.put(error or result.as_numpy("y").tolist()))
    return answers.get(timeout=30)


async def ask_aio(port: str, x: np.ndarray) -> object:
    """The same with its asyncio client."""
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = await client.infer("m", [triton_aio.InferInput("x", [2, 3], "FP32").set_data_from_numpy(x)])
        return [await client.is_model_ready("m"), answer.as_numpy("y").tolist()]


def list_numbers(messages: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Give name, number and type of each field by message."""
    for message in messages.values():
        name = message.full_name.partition(".")[2]
        yield name, sorted([field.number, field.name, field.type, field.is_repeated] for field in message.fields)
        yield from list_numbers(message.nested_types_by_name)


if __name__ == "__main__":
    main(sys.argv[1])
