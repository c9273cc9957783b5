"""
Golden examples: inputs with the answers the tested file gave, kept with the version.

A replica that gives other answers to them is not serving the file that was tested, whatever its hash says about
the bytes: another build of ONNX Runtime, another processor, a broken memory.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.errors import IntegrityError
from lastgood.tensors import DATATYPES, TensorSpec

Arrays = Mapping[str, np.ndarray[Any, Any]]
FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
ROWS: Final = 8  # examples made up for a model that comes without any
RTOL: Final = 1e-3  # two processors may sum in another order
ATOL: Final = 1e-4


def write_golden(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """
    Write examples as an NPZ file; the same arrays give the same bytes.

    Args:
        path: The file to make.
        inputs: "rows …" arrays by input name.
        outputs: "rows …" arrays by output name, what the tested file answered.
    """
    arrays = {f"in/{name}": inputs[name] for name in sorted(inputs)} | {f"out/{name}": outputs[name] for name in sorted(outputs)}
    buffer = io.BytesIO()  # a file object: savez appends a suffix to a path it does not like
    np.savez(buffer, allow_pickle=False, **arrays)
    path.write_bytes(buffer.getvalue())


def read_golden(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]:
    """
    Read what `write_golden` wrote: inputs and outputs by name.

    Raises:
        IntegrityError: It is no such file.
    """
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    outputs: dict[str, np.ndarray[Any, Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                side, _, name = key.partition("/")
                {"in": inputs, "out": outputs}[side][name] = arrays[key]
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise IntegrityError(
            f"{path.name} holds no golden examples: {exc}. Expected an NPZ file with in/NAME and out/NAME arrays."
        ) from exc
    return inputs, outputs


def make_inputs(specs: Sequence[TensorSpec], *, rows: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]] | None:
    """
    Make up inputs from a standard normal distribution; the same seed gives the same ones.

    Args:
        specs: The model's inputs.
        rows: Size of a first axis that may vary.
        seed: Of the generator.

    Returns:
        Arrays by name, or None where an input is not floating-point or another axis than the first may vary.
    """
    generator = np.random.default_rng(seed)
    arrays = {}
    for spec in specs:
        if spec.datatype not in FLOATS or -1 in spec.shape[1:]:
            return None
        shape = tuple(rows if size == -1 else size for size in spec.shape)
        arrays[spec.name] = generator.standard_normal(shape).astype(DATATYPES[spec.datatype])
    return arrays or None


def agree(expected: Arrays, actual: Arrays, *, rtol: float, atol: float) -> bool:
    """Say whether answers are the same: floats within the tolerances, everything else exactly; what is not finite never is."""
    return expected.keys() == actual.keys() and all(_same(expected[name], actual[name], rtol, atol) for name in expected)


def _same(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any], rtol: float, atol: float) -> bool:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(expected, actual))
    return bool(np.isfinite(actual).all() and np.allclose(actual, expected, rtol=rtol, atol=atol))
