"""A loaded model, and the proof that it is the tested one: its signature and its golden answers."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from lastgood.runtime import name_provider, open_session, read_signature
from lastgood.serving.replica import memory
from lastgood.serving.replica.errors import GoldenMismatchError, SignatureMismatchError
from lastgood.serving.replica.package import Package
from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES, TensorSpec

WARM_UP_CALLS = 5


class Model:
    """
    A session and the names of what goes in and out.

    A subclass may wrap `run`; everything else about a replica stays as it is.
    """

    def __init__(self, session: Any, package: Package) -> None:
        """Take a loaded session whose signature was checked."""
        self._session = session
        self.provider = name_provider(session)
        self.inputs = package.inputs
        self.outputs = package.outputs
        self.batching = package.batching
        self.input_names = [spec.name for spec in package.inputs]
        self._output_names = [spec.name for spec in package.outputs]

    @classmethod
    def open(cls, package: Package) -> Self:
        """
        Load a verified package.

        Raises:
            UnsupportedModelError: ONNX Runtime refuses the model.
            ProviderMissingError: It has no provider that was asked for.
            SignatureMismatchError: It takes or gives other tensors than the content says.
        """
        session = _load(package)
        found = read_signature(session)
        for kind, promised, actual in (("inputs", package.inputs, found[0]), ("outputs", package.outputs, found[1])):
            wanted = {spec.name: spec.datatype for spec in promised}
            given = {spec.name: spec.datatype for spec in actual}
            if wanted != given:
                raise SignatureMismatchError(f"The {kind} of the model are {given}; the content of {package.digest} says {wanted}.")
        return cls(session, package)

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """
        Compute one batch.

        Args:
            feeds: Arrays by input name, of the content's datatypes; views of shared memory that are not to be kept.

        Returns:
            Arrays in the order of the content's outputs, in memory of their own.
        """
        outputs: Sequence[Array] = self._session.run(self._output_names, feeds)
        return outputs


def _load(package: Package) -> Any:
    if not package.beside:
        return open_session(package.model, threads=package.threads, providers=package.providers)
    # ONNX Runtime reads tensor files by path: it gets copies of the verified bytes that nobody else writes to.
    with tempfile.TemporaryDirectory(prefix="lastgood-replica-") as private:
        for name, data in {**package.beside, package.path: package.model}.items():
            path = Path(private) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return open_session(Path(private) / package.path, threads=package.threads, providers=package.providers)


def prove(model: Model, package: Package) -> str:
    """
    Warm a model up and compare its golden answers.

    Returns:
        A sentence saying what was done, for the log.

    Raises:
        GoldenMismatchError: An answer is missing or differs by more than the content allows.
    """
    if package.golden is None:
        return f"{_warm_up(model, make_inputs(package.inputs))} There are no golden examples to compare."
    golden = package.golden
    if set(golden.inputs) != set(model.input_names):
        raise GoldenMismatchError(f"The golden examples hold inputs {sorted(golden.inputs)}; the model takes {sorted(model.input_names)}.")
    try:
        answers = dict(zip([spec.name for spec in model.outputs], model.run(golden.inputs), strict=True))
    except Exception as exc:  # ONNX Runtime's errors share no public base class
        raise GoldenMismatchError(f"The model fails on its golden examples: {exc}") from exc
    for name, wanted in golden.outputs.items():
        if name not in answers:
            raise GoldenMismatchError(f"The golden examples hold output {name!r}; the model gives {sorted(answers)}.")
        _compare(name, np.asarray(answers[name]), wanted, golden.rtol, golden.atol)
    return f"{_warm_up(model, golden.inputs)} The golden answers agree."


def _warm_up(model: Model, feeds: Mapping[str, Array]) -> str:
    start = time.perf_counter()
    for _ in range(WARM_UP_CALLS):
        try:
            model.run(feeds)
        except Exception as exc:  # ONNX Runtime's errors share no public base class
            if memory.is_limited() and memory.ran_out(exc):
                raise  # as every batch would be
            # Only made-up inputs get here with an error, and a sound model may refuse those: no verdict.
            return f"Warm-up stopped, the model refuses made-up inputs: {exc}."
    return f"Warmed up with {WARM_UP_CALLS} calls in {time.perf_counter() - start:.3f} s."


def _compare(name: str, actual: Array, wanted: Array, rtol: float, atol: float) -> None:
    if actual.shape != wanted.shape:
        raise GoldenMismatchError(f"Golden output {name!r} has shape {list(actual.shape)}; recorded was {list(wanted.shape)}.")
    if wanted.dtype.kind == "f":
        agrees = np.isclose(actual.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol)
    else:
        agrees = np.asarray(actual == wanted)
    if not agrees.all():
        worst = tuple(int(axis) for axis in np.argwhere(~agrees)[0])
        raise GoldenMismatchError(
            f"Golden output {name!r} differs in {int((~agrees).sum())} of {agrees.size} elements: at {list(worst)} it is "
            f"{actual[worst]!s}, recorded was {wanted[worst]!s} (rtol {rtol}, atol {atol}). "
            "This host or file does not compute what was tested."
        )


def make_inputs(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Give zeros (empty texts for BYTES) by input name, with 1 for every size that may vary."""
    feeds = {}
    for spec in specs:
        shape = [1 if size < 0 else size for size in spec.shape]
        dtype = DATATYPES[spec.datatype]
        feeds[spec.name] = np.full(shape, "", dtype) if spec.datatype == "BYTES" else np.zeros(shape, dtype)
    return feeds
