"""What a user of `tritonclient` writes; run with its own environment: PORT in, JSON out."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio


def main(port: str) -> None:
    """Ask whatever the client can ask of a server like ours."""
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        found: dict[str, object] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("m"),
            "version_ready": client.is_model_ready("m", "1"),
            "server": client.get_server_metadata()["extensions"],
            "model": client.get_model_metadata("m")["inputs"],
        }
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        for binary_in in (True, False):
            for binary_out in (True, False):
                given = triton.InferInput("x", [2, 3], "FP32")
                given.set_data_from_numpy(x, binary_data=binary_in)
                answer = client.infer("m", [given], outputs=[triton.InferRequestedOutput("y", binary_data=binary_out)], request_id="7")
                found[f"{binary_in} {binary_out}"] = [answer.as_numpy("y").tolist(), answer.get_response()["id"]]
        given.set_data_from_numpy(x)
        found["default"] = client.infer("m", [given], model_version="1").as_numpy("y").tolist()
        found["async"] = client.async_infer("m", [given]).get_result().as_numpy("y").tolist()
        try:
            client.infer("m", [triton.InferInput("z", [2, 3], "FP32").set_data_from_numpy(x)])
        except triton.InferenceServerException as exc:
            found["error"] = exc.message()
    found["aio"] = asyncio.run(ask_aio(port, x))
    sys.stdout.write(json.dumps(found))


async def ask_aio(port: str, x: np.ndarray) -> object:
    """The same with its asyncio client."""
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = await client.infer("m", [triton_aio.InferInput("x", [2, 3], "FP32").set_data_from_numpy(x)])
        return answer.as_numpy("y").tolist()


if __name__ == "__main__":
    main(sys.argv[1])
