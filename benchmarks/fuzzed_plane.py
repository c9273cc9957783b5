"""A data plane with a small model, until SIGTERM: ``python fuzzed_plane.py FOLDER``; writes its port as JSON."""

import asyncio
import hashlib
import json
import signal
import sys
from pathlib import Path

import uvloop
from onnx import TensorProto, helper

from lastgood.registry.content import Content, FileEntry
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.plane import DataPlane
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.route import Coin, Lane, Route, Tally
from lastgood.tensors import TensorSpec


def write_model(folder: Path) -> Content:
    """Write a model that gives back its "batch 3" float32 input."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    entry = FileEntry("model.onnx", len(data), hashlib.sha256(data).hexdigest())
    return Content((entry,), (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),), 0, None)


async def serve(folder: Path) -> None:
    """Serve the model as m."""
    content = write_model(folder)
    backend = ProcessBackend()
    await backend.open(())
    pool = ReplicaPool("m", 1, content.digest, content, folder, backend=backend)
    await pool.start()
    reception = Reception()
    # Every client closes its sending side and reads on: where the machine pauses, what waits does not give way to others.
    limits = HttpLimits(head_seconds=2, body_seconds=2, half_closed_seconds=4)
    plane = DataPlane(reception, "127.0.0.1", 0, limits=limits)
    reception.add_pool(pool)
    reception.set_route(Route("m", 1, Lane(pool, "live", Tally(), float("inf"), None, None), None, 0, Coin(1)))
    await plane.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(json.dumps({"port": plane.port}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await plane.drain(2)
    await pool.stop(drain=False)
    await backend.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
