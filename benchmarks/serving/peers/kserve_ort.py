"""KServe's model server: one worker, its version 1 protocol, no gRPC."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import Model, ModelServer

from lastgood.runtime import open_session

MODEL, PORT = sys.argv[1], int(sys.argv[2])


class Runtime(Model):
    """The model as KServe runs it."""

    def __init__(self) -> None:
        """Load it."""
        super().__init__("model")
        self.load()

    def load(self) -> bool:
        """Load it."""
        self.session = open_session(Path(MODEL).read_bytes())
        self.ready = True
        return True

    async def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None, **_: Any) -> dict[str, Any]:
        """Answer one request."""
        del headers
        x = np.array(payload["instances"], dtype=np.float32)
        return {"predictions": self.session.run(None, {"x": x})[0].tolist()}


if __name__ == "__main__":
    server = ModelServer(http_port=PORT, workers=1, enable_grpc=False, enable_latency_logging=False, event_loop="uvloop")
    server.start([Runtime()])
