"""FastAPI with ONNX Runtime in its one process: `async def`, orjson both ways, no response model, uvloop and httptools."""

import sys
from pathlib import Path

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from lastgood.runtime import open_session

MODEL, PORT = sys.argv[1], int(sys.argv[2])
app = FastAPI()
session = open_session(Path(MODEL).read_bytes())


@app.get("/ready")
async def ready() -> Response:
    """Say that the model is loaded."""
    return Response()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Answer one request; the model runs on the event loop, for a thread costs more than these models do."""
    x = np.array(orjson.loads(await request.body())["x"], dtype=np.float32)
    (y,) = session.run(None, {"x": x})
    return Response(orjson.dumps({"y": y}, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning")
