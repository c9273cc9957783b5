"""The loop of a replica: a notice comes, the model runs, the answer goes back."""

import socket
import time
from collections.abc import Sequence

import numpy as np

from lastgood.serving.replica import memory, notices
from lastgood.serving.replica.model import Model
from lastgood.serving.replica.slots import Array, Slot


def serve(connection: socket.socket, model: Model, slots: Sequence[Slot]) -> bool:
    """
    Answer batches until the gateway lets go, closes the connection or dies; say whether it let go.

    An exception of the model is an answer ("failed"), not the end of the replica; but for a limit of memory that is reached: a
    model that keeps more and more would fail every batch from then on, and another replica can answer this one.
    """
    limited = memory.is_limited()
    while True:
        try:
            message = connection.recv(notices.MESSAGE_BYTES)
        except ConnectionResetError:
            return False
        if not message:
            return False
        if message[0] == notices.END:
            return True
        _, index, number, used, _, _ = notices.unpack(message)
        try:
            answer = run_batch(model, slots[index], index, number, used)
        except Exception as exc:  # noqa: BLE001  # whatever the model raises is this batch's answer
            if limited and memory.ran_out(exc):
                memory.give_up()
            answer = notices.pack_failed(index, number, f"{type(exc).__name__}: {exc}")
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return False


def run_batch(model: Model, slot: Slot, index: int, number: int, used: int) -> bytes:
    """Compute the batch in a slot; give the notice that says where its answer is: in the same slot."""
    feeds = dict(zip(model.input_names, slot.read(used), strict=True))
    start = time.perf_counter()
    outputs = [np.asarray(output) for output in model.run(feeds)]
    seconds = time.perf_counter() - start
    rows = next(iter(feeds.values())).shape[0] if model.batching == 0 else None
    flags = find_invalid(outputs, rows)
    tensors = [[output] for output in outputs]
    if flags is not None:
        tensors.append([flags])
    return notices.pack_done(index, number, slot.write(tensors), seconds, flagged=flags is not None)


def find_invalid(outputs: Sequence[Array], rows: int | None) -> Array | None:
    """
    Say which rows of a batch have a floating-point output that is not finite.

    Args:
        outputs: "batch …" arrays; or arrays of any shape where ``rows`` is None.
        rows: Rows in the batch, None where the model has no batch axis.

    Returns:
        bool by row, one element for all where rows cannot be told apart; None where everything is finite.
    """
    flags: Array | None = None
    for output in outputs:
        if output.dtype.kind != "f" or np.isfinite(output).all():
            continue
        if rows is None or output.ndim == 0 or output.shape[0] != rows:
            return np.ones(1, np.bool_)
        bad: Array = np.logical_not(np.isfinite(output).reshape(rows, -1).all(axis=1))
        flags = bad if flags is None else np.logical_or(flags, bad)
    return flags
