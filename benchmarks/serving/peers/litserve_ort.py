"""
LitServe: one worker process, its fast queue, no batches.

On the MLP, one short run each: batches with a wait of 2 ms gave 8 % more at 64 connections and 59 % less at 1.
"""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from lastgood.runtime import open_session

MODEL, PORT = sys.argv[1], int(sys.argv[2])


class Api(litserve.LitAPI):
    """The model; LitServe calls `setup` in the worker."""

    def setup(self, device: str) -> None:
        """Load it."""
        del device
        self.session = open_session(Path(MODEL).read_bytes())

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Read one row."""
        return np.array(request["x"], dtype=np.float32)

    def predict(self, x: Any) -> Any:
        """Run one request."""
        return self.session.run(None, {"x": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Write the answer."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning", access_log=False)
