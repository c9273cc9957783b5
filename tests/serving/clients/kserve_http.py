"""What a user of KServe's client writes; run with its own environment: PORT in, JSON out."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(port: str) -> None:
    """Ask whatever the client can ask of a server like ours."""
    url = f"http://127.0.0.1:{port}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    found: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, "m"),
    }
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for binary in (True, False):
        given = InferInput("x", [2, 3], "FP32")
        given.set_data_from_numpy(x, binary_data=binary)
        request = InferRequest(model_name="m", request_id="7", infer_inputs=[given], parameters={"binary_data_output": binary})
        answer = await client.infer(url, request, model_name="m")
        found[str(binary)] = [answer.outputs[0].as_numpy().tolist(), answer.id, answer.model_version]
    await client.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
