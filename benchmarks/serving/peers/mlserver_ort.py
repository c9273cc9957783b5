"""
MLServer with a runtime of one's own, in its one process.

``parallel_workers = 0`` and no adaptive batching: an earlier measurement on the MLP and the CNN had it slower with either.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse

from lastgood.runtime import open_session

MODEL, PORT, GRPC, METRICS = sys.argv[1], *map(int, sys.argv[2:5])
DATA = Path(MODEL).read_bytes()


class Runtime(MLModel):
    """The model as MLServer runs it."""

    async def load(self) -> bool:
        """Load it."""
        self.session = open_session(DATA)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        (y,) = self.session.run(None, {"x": x})
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


async def main() -> None:
    """Serve until told to end."""
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=PORT,
        grpc_port=GRPC,
        metrics_port=METRICS,
        parallel_workers=0,
        load_models_at_startup=False,
        gzip_enabled=False,
    )
    server = MLServer(settings)
    model = ModelSettings(name="model", implementation=Runtime, parameters=ModelParameters(uri=MODEL))
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
