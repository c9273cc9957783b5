"""
What is watched of a row: numbers taken from its inputs and outputs, the same ones at training and in production.

An input's elements are features of their own while all inputs together have at most `LIMIT` of them. A larger input, such as
an image, gives its mean, spread, smallest and largest value and `PROJECTIONS` fixed random projections: a change that moves
nothing but single pixels is not seen then. Text gives its length in characters and in words. Each input of floats has one
feature more, the part of its elements that is missing (NaN). An output of class scores gives them, whether each class
is the answer, and the confidence; another output its elements.

Source of the projections: Johnson, Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", Contemporary
Mathematics 26, 1984.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np

from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError

Array = np.ndarray[Any, Any]
Kind = Literal["elements", "summary", "text", "classes"]
LIMIT = 128  # elements of all inputs together that are features of their own
PROJECTIONS = 16
MOST_CLASSES = 32  # of one output; with more, it is summarised
_SUMMARIES = ("mean", "spread", "smallest", "largest")


@dataclass(frozen=True, slots=True)
class Part:
    """
    The features of one input or output.

    ``shape`` is a row's, -1 where it may vary; ``normal`` says that class scores are probabilities already.
    """

    side: Literal["in", "out"]
    name: str
    kind: Kind
    shape: tuple[int, ...]
    missing: bool = False  # whether the part of elements that is NaN is a feature
    normal: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each feature, such as ``in/image[0,3]``."""
        own = f"{self.side}/{self.name}"
        more = (f"{own} missing",) if self.missing else ()
        if self.kind == "text":
            return (f"{own} characters", f"{own} words")
        if self.kind == "summary":
            fixed = -1 not in self.shape
            return (
                *(f"{own} {what}" for what in _SUMMARIES),
                *(f"{own} projection {k}" for k in range(PROJECTIONS if fixed else 0)),
                *more,
            )
        if self.kind == "classes":
            classes = self.watched_classes
            return (*(f"{own}[{k}]" for k in classes), *(f"{own} answers {k}" for k in classes), f"{own} confidence")
        if not self.shape:
            return (own, *more)
        return (*(f"{own}[{','.join(map(str, place))}]" for place in np.ndindex(self.shape)), *more)

    @property
    def watched_classes(self) -> range:
        """The classes with features of their own: of two, the second says it all."""
        return range(1 if self.shape[-1] == 2 else 0, self.shape[-1])

    def to_json(self) -> dict[str, Any]:
        """Give the fields by name."""
        return {
            "side": self.side,
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "missing": self.missing,
            "normal": self.normal,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Part":
        """
        Read what `to_json` wrote.

        Raises:
            ProfileDamagedError: It is something else.
        """
        shape = tuple(value["shape"])
        sound = value["side"] in {"in", "out"} and value["kind"] in get_args(Kind) and isinstance(value["name"], str)
        if not sound or not all(isinstance(size, int) and -1 <= size < 1 << 31 for size in shape) or len(shape) > 8:
            raise ProfileDamagedError(f"A profile's part is {str(dict(value))[:200]}; expected side, name, kind and the shape of a row.")
        part = cls(value["side"], value["name"], value["kind"], shape, bool(value["missing"]), bool(value["normal"]))
        flat = part.kind in {"elements", "classes"}
        if (flat and not 0 < math.prod(shape) <= LIMIT) or (part.kind == "classes" and len(shape) != 1):
            raise ProfileDamagedError(f"A profile's part {part.name!r} has rows of shape {shape}; expected 1 to {LIMIT} elements.")
        return part


@dataclass(frozen=True)
class FeaturePlan:
    """Which features are taken of a row, in which order: the inputs' parts, then the outputs'."""

    parts: tuple[Part, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each feature."""
        return tuple(name for part in self.parts for name in part.names)

    @cached_property
    def confidence(self) -> int | None:
        """Which feature is the first output's confidence; None where no output has classes."""
        end = 0
        for part in self.parts:
            end += len(part.names)
            if part.kind == "classes":
                return end - 1
        return None

    def extract(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Array:
        """
        Take the features of rows.

        Args:
            inputs: "row …" arrays by input name.
            outputs: "row …" arrays by output name.

        Returns:
            "row feature" float32; NaN where a value is missing.

        Raises:
            RowsMismatchError: An array is missing, of another shape, or of another number of rows.
        """
        arrays = [self._find(part, inputs if part.side == "in" else outputs) for part in self.parts]
        rows = len(arrays[0])
        features = np.empty((rows, len(self.names)), np.float32)
        start = 0
        for part, array in zip(self.parts, arrays, strict=True):
            if len(array) != rows:
                raise RowsMismatchError(f"{part.name!r} has {len(array)} rows beside {rows}; expected as many in every input and output.")
            end = start + len(part.names)
            _FILL[part.kind](part, array, features[:, start:end])
            start = end
        return features

    @staticmethod
    def _find(part: Part, arrays: Mapping[str, Array]) -> Array:
        array = arrays.get(part.name)
        if array is None:
            raise RowsMismatchError(f"There is no {part.side}put {part.name!r}; got {sorted(arrays)}.")
        array = np.asarray(array)
        fits = array.ndim == len(part.shape) + 1 and all(own in (-1, size) for own, size in zip(part.shape, array.shape[1:], strict=True))
        if not fits:
            raise RowsMismatchError(
                f"{part.name!r} has rows of shape {array.shape[1:]}; the profile was made of rows of shape {part.shape}."
            )
        return array


def plan_features(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> FeaturePlan:
    """
    Choose the features from examples.

    Args:
        inputs: "row …" arrays by input name.
        outputs: "row …" arrays by output name, what was answered.
    """
    sizes = {name: math.prod(array.shape[1:]) for name, array in inputs.items() if array.dtype.kind not in "OUS"}
    flat: set[str] = set()
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):  # small ones first, as far as the limit reaches
        if sum(sizes[own] for own in flat) + sizes[name] <= LIMIT:
            flat.add(name)
    parts = []
    for name in sorted(inputs):
        array = inputs[name]
        if array.dtype.kind in "OUS":
            parts.append(Part("in", name, "text", array.shape[1:]))
        else:
            kind: Kind = "elements" if name in flat and sizes[name] else "summary"
            parts.append(Part("in", name, kind, array.shape[1:], missing=array.dtype.kind == "f"))
    return FeaturePlan((*parts, *(_plan_output(name, outputs[name]) for name in sorted(outputs))))


def _plan_output(name: str, array: Array) -> Part:
    if array.dtype.kind in "OUS":
        return Part("out", name, "text", array.shape[1:])
    if array.dtype.kind == "f" and array.ndim == 2 and 2 <= array.shape[1] <= MOST_CLASSES:
        normal = bool(np.all(array >= -1e-3) and np.allclose(array.sum(axis=1), 1, atol=1e-2))
        return Part("out", name, "classes", array.shape[1:], normal=normal)
    size = math.prod(array.shape[1:])
    return Part("out", name, "elements" if 0 < size <= MOST_CLASSES else "summary", array.shape[1:], missing=array.dtype.kind == "f")


def find_confidence(scores: Array, *, normal: bool) -> Array:
    """Give the largest class probability of each row, "row" float32, of "row class" scores; by softmax where they are no probabilities."""
    largest = scores.max(axis=1)
    if normal:
        return np.asarray(largest, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(1 / np.exp(scores - largest[:, None]).sum(axis=1), np.float32)


def _flatten(array: Array) -> Array:
    return array.reshape(len(array), math.prod(array.shape[1:]))  # -1 could not be told for no rows


def _fill_elements(part: Part, array: Array, out: Array) -> None:
    flat = _flatten(array)
    width = flat.shape[1]
    out[:, :width] = flat
    if part.missing:
        _fill_missing(flat, out[:, -1])


def _fill_missing(flat: Array, out: Array) -> None:
    missing = np.isnan(flat)
    out[:] = missing.mean(axis=1) if missing.any() else 0


def _fill_summary(part: Part, array: Array, out: Array) -> None:
    flat = _flatten(array).astype(np.float32, copy=False)
    if not flat.shape[1]:
        out[:] = np.nan
        return
    with np.errstate(over="ignore", invalid="ignore"):
        for column, values in enumerate((flat.mean(axis=1), flat.std(axis=1), flat.min(axis=1), flat.max(axis=1))):
            out[:, column] = values
        if -1 not in part.shape:
            out[:, 4 : 4 + PROJECTIONS] = flat @ _projections(flat.shape[1])
    if part.missing:
        _fill_missing(flat, out[:, -1])


def _fill_text(part: Part, array: Array, out: Array) -> None:
    del part
    texts: Sequence[list[Any]] = _flatten(array).tolist()
    for row, own in enumerate(texts):
        words = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in own]
        out[row] = (sum(map(len, words)), sum(len(text.split()) for text in words))


def _fill_classes(part: Part, array: Array, out: Array) -> None:
    classes = part.watched_classes
    count = len(classes)
    out[:, :count] = array[:, classes.start :]
    answers = array.argmax(axis=1)
    np.equal(answers[:, None], np.arange(classes.start, classes.stop), out=out[:, count : 2 * count], casting="unsafe")
    out[:, -1] = find_confidence(array, normal=part.normal)


_FILL = {"elements": _fill_elements, "summary": _fill_summary, "text": _fill_text, "classes": _fill_classes}


@lru_cache(maxsize=8)
def _projections(size: int) -> Array:
    # Signs by SHA-256: the streams of NumPy's generators may change between its versions, and a profile outlives them.
    needed = -(-size * PROJECTIONS // 256)
    bits = np.unpackbits(np.frombuffer(b"".join(hashlib.sha256(f"{size} {k}".encode()).digest() for k in range(needed)), np.uint8))
    signs = bits[: size * PROJECTIONS].reshape(size, PROJECTIONS).astype(np.float32)
    return np.asarray((2 * signs - 1) / math.sqrt(size), np.float32)
