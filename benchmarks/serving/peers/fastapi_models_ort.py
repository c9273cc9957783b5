"""FastAPI with ONNX Runtime as its tutorial has it: pydantic models for request and response, `async def`, uvloop and httptools."""

import sys
from functools import reduce
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from lastgood.runtime import open_session

MODEL, PORT = sys.argv[1], int(sys.argv[2])
app = FastAPI()
session = open_session(Path(MODEL).read_bytes())
# Lists of numbers, nested as deep as the model's input has axes.
Nested = reduce(lambda inner, _: list[inner], session.get_inputs()[0].shape, float)  # type: ignore[valid-type]


class Asked(BaseModel):
    """A request."""

    x: Nested  # type: ignore[valid-type]


class Answered(BaseModel):
    """An answer."""

    y: list[list[float]]


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Say that the model is loaded."""
    return {"ready": True}


@app.post("/predict")
async def predict(asked: Asked) -> Answered:
    """Answer one request; the model runs on the event loop, for a thread costs more than these models do."""
    (y,) = session.run(None, {"x": np.array(asked.x, dtype=np.float32)})
    return Answered(y=y.tolist())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning")
