"""
Ray Serve: one proxy and one replica, no access log, no batches.

On the MLP, one short run each: `serve.batch` gave 10 % less at 64 connections and 18 % more at 1.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from lastgood.runtime import open_session

MODEL, PORT = sys.argv[1], int(sys.argv[2])


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1}, logging_config={"enable_access_log": False})
class Runtime:
    """The model as Ray Serve runs it."""

    def __init__(self, model: str) -> None:
        """Load it."""
        self.session = open_session(Path(model).read_bytes())

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        x = np.array((await request.json())["x"], dtype=np.float32)
        return {"y": self.session.run(None, {"x": x})[0].tolist()}


if __name__ == "__main__":
    os.environ["RAY_worker_niceness"] = "0"  # its own default, 15, would give way to wrk  # noqa: SIM112
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, _temp_dir=sys.argv[5])
    serve.start(http_options={"host": "127.0.0.1", "port": PORT, "access_log": False}, logging_config={"enable_access_log": False})
    serve.run(Runtime.bind(MODEL))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
