"""pytriton: Triton Inference Server in front of a Python callable, its dynamic batcher, JSON over its REST protocol."""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from lastgood.runtime import open_session

MODEL, PORT, GRPC, METRICS = sys.argv[1], *map(int, sys.argv[2:5])

if __name__ == "__main__":
    # Triton's stub is linked against libpython: it must be this interpreter's own, not another of the same minor version.
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))))
    session = open_session(Path(MODEL).read_bytes())
    given, given_back = session.get_inputs()[0], session.get_outputs()[0]

    @batch
    def infer(x: Any) -> list[Any]:
        """Answer one batch."""
        return session.run(None, {"x": x})

    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, grpc_address="127.0.0.1", grpc_port=GRPC, metrics_port=METRICS)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=given.shape[1:])],
            outputs=[Tensor(name="y", dtype=np.float32, shape=given_back.shape[1:])],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher()),
        )
        triton.serve()
