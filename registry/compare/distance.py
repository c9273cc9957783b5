"""How far two tensors of one type and shape lie apart, added up piece by piece."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lastgood.registry.store.elements import KINDS, Bytes

Array = np.ndarray[Any, np.dtype[Any]]
_NUMBERS: Final = {
    "BOOL": "u1",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_BLOCK_ELEMENTS: Final = 1 << 13  # that are looked at together: they stay in the cache, and are too few for BLAS to start threads
_SQUARED_MIN: Final = 1e-140  # whose square float64 holds with room for smaller ones beside it
_SQUARED_MAX: Final = 1e150


@dataclass(frozen=True, slots=True)
class Distance:
    """
    How far two tensors lie apart.

    The distances are taken over the places where both have a finite number; None where there are none, and where a
    distance is not defined: relative to a first tensor of zeros, or between directions of which one is zero.

    Attributes:
        elements: How many each tensor has.
        changed: How many have other bits, 0 and -0 or two kinds of NaN too.
        changed_ratio: The same as a part of all, 0 to 1.
        l2: Square root of the sum of squared differences, 0 or more; infinite where float64 does not hold it.
        l2_relative: The same as a part of the first tensor's norm.
        cosine: 1 minus the cosine of the angle, 0 to 2.
        largest: The largest absolute difference of one element.
        nan_before: NaN in the first tensor; the next three are the second one's, and infinities.
    """

    elements: int
    changed: int
    changed_ratio: float
    l2: float | None
    l2_relative: float | None
    cosine: float | None
    largest: float | None
    nan_before: int = 0
    nan_after: int = 0
    infinite_before: int = 0
    infinite_after: int = 0


class Distances:
    """What is added up of two tensors while they are read."""

    def __init__(self, dtype: str) -> None:
        """Start at nothing; elements are of this type, a key of `ITEM_BYTES`."""
        self._dtype = dtype
        self._bits = KINDS[dtype].unsigned
        # 64-bit integers need more digits than float64 has.
        self._exact = dtype in {"I64", "U64"}
        zero = np.longdouble(0)
        self._before, self._after, self._apart, self._grown, self._largest = zero, zero, zero, zero, zero
        self._elements = self._changed = self._used = 0
        self._nan = [0, 0]
        self._infinite = [0, 0]

    def add(self, before: Bytes, after: Bytes) -> None:
        """Add as many elements of the first as of the second, as they lie in memory."""
        width = self._bits.itemsize * _BLOCK_ELEMENTS
        one, other = memoryview(before), memoryview(after)
        for start in range(0, len(one), width):
            self._add_block(one[start : start + width], None if before is after else other[start : start + width])

    def finish(self) -> Distance:
        """Give what was added up."""
        apart, norm, other = (float(np.sqrt(own)) for own in (self._apart, self._before, self._after))
        return Distance(
            elements=self._elements,
            changed=self._changed,
            changed_ratio=self._changed / self._elements if self._elements else 0.0,
            l2=apart if self._used else None,
            l2_relative=float(np.sqrt(self._apart) / np.sqrt(self._before)) if norm else None,
            cosine=self._measure_angle() if norm and other else None,
            largest=float(self._largest) if self._used else None,
            nan_before=self._nan[0],
            nan_after=self._nan[1],
            infinite_before=self._infinite[0],
            infinite_after=self._infinite[1],
        )

    def _measure_angle(self) -> float:
        """
        Give 1 minus the cosine from what is apart, not from the product: two neighbours' product says only that they are near.

        With a, b the norms and d the distance, 1 - cos = (d² - (b - a)²) / 2ab; and b² - a² was added up as (b - a)(b + a).
        """
        before, after = np.sqrt(self._before), np.sqrt(self._after)
        longer = self._grown / (before + after)
        found = float((self._apart - longer * longer) / (2 * before * after))
        return found if math.isnan(found) else min(2.0, max(0.0, found))

    def _add_block(self, one: memoryview, other: memoryview | None) -> None:
        """Add some elements; None where the second's are the first's."""
        self._elements += len(one) // self._bits.itemsize
        before = after = self._read(one)
        if other is not None:
            self._changed += int(np.count_nonzero(np.frombuffer(one, self._bits) != np.frombuffer(other, self._bits)))
            after = self._read(other)
        before, after = self._leave_out(before, after)
        self._used += len(before)
        if not len(before):
            return
        with np.errstate(over="ignore"):
            difference = after - before
        if not all(map(_is_squarable, (before, after, difference))):
            before, after = before.astype(np.longdouble), after.astype(np.longdouble)
            difference = after - before
        self._before += np.dot(before, before)
        self._after += np.dot(after, after)
        self._apart += np.dot(difference, difference)
        self._grown += np.dot(difference, after + before)
        self._largest = max(self._largest, np.abs(difference).max())

    def _leave_out(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Count what is not finite, and give the places where both are."""
        finite = np.isfinite(before) & np.isfinite(after)
        if finite.all():
            return before, after
        for index, own in enumerate((before, after)):
            self._nan[index] += int(np.isnan(own).sum())
            self._infinite[index] += int(np.isinf(own).sum())
        return before[finite], after[finite]

    def _read(self, data: memoryview) -> Array:
        """Give the elements as wider numbers; brain floats are the upper halves of float32."""
        if self._dtype == "BF16":
            return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
        return np.frombuffer(data, _NUMBERS[self._dtype]).astype(np.longdouble if self._exact else np.float64)


def _is_squarable(values: Array) -> bool:
    """Say whether the squares that make up the sum of all stay within the type."""
    largest = np.abs(values).max()
    return bool(largest == 0 or _SQUARED_MIN < largest < _SQUARED_MAX)
