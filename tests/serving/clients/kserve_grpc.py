"""What a user of KServe's gRPC client writes; run with its own environment: PORT in, JSON out."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(port: str) -> None:
    """Ask whatever the client can ask of a server like ours."""
    async with InferenceGRPCClient(f"127.0.0.1:{port}") as client:
        found: dict[str, object] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("m"),
        }
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        for binary in (True, False):
            given = InferInput("x", [2, 3], "FP32")
            given.set_data_from_numpy(x, binary_data=binary)
            answer = await client.infer(InferRequest(model_name="m", request_id="7", infer_inputs=[given]))
            found[str(binary)] = [answer.outputs[0].as_numpy().tolist(), answer.id, answer.model_version]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
