"""Tensors cross shared memory unchanged, and what is no tensor is an error, never a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import Slot
from lastgood.tensors import DATATYPES

Array = np.ndarray[Any, np.dtype[Any]]
NUMERIC = [dtype for dtype in DATATYPES.values() if dtype.kind != "O"]
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
numbers = st.sampled_from(NUMERIC).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
texts = hnp.arrays(np.dtype(object), shapes, elements=st.text(max_size=20), fill=st.nothing())


@contextmanager
def open_pair(size: int = 4096, limit: int = 1 << 24) -> Iterator[tuple[Slot, Slot]]:
    """Map one slot twice, as the two processes do."""
    ours = Slot.create(size, limit=limit)
    theirs = Slot(os.dup(ours.fd), limit=limit)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


@given(st.lists(st.one_of(numbers, texts), max_size=4))
def test_what_one_side_writes_the_other_reads(tensors: list[Array]) -> None:
    """Every datatype and shape comes back equal, scalars and empty ones too."""
    with open_pair() as (ours, theirs):
        used = ours.write([[tensor] for tensor in tensors])
        read = theirs.read(used)
        assert [tensor.dtype for tensor in tensors] == [tensor.dtype for tensor in read]
        for expected, actual in zip(tensors, read, strict=True):
            np.testing.assert_array_equal(expected, actual, strict=True)


@given(st.lists(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3))), min_size=1, max_size=5))
def test_parts_are_joined_along_the_first_axis(parts: list[Array]) -> None:
    """A batch in shared memory is the concatenation of its requests."""
    with open_pair() as (ours, theirs):
        np.testing.assert_array_equal(np.concatenate(parts), theirs.read(ours.write([parts]))[0])


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 5000))
def test_garbage_is_refused(data: bytes, used: int) -> None:
    """Whatever the other side leaves in a slot, reading it gives tensors inside of the slot or a SlotError."""
    with open_pair() as (ours, theirs):
        os.pwrite(ours.fd, data, 0)
        try:
            read = theirs.read(used)
        except SlotError:
            return
        assert all(tensor.nbytes <= used for tensor in read if tensor.dtype != object)


def test_a_slot_grows_and_the_other_side_sees_it() -> None:
    """A tensor larger than the slot makes it grow, in either direction."""
    big, bigger = np.arange(5_000, dtype=np.float64), np.arange(50_000, dtype=np.float64)
    with open_pair() as (ours, theirs):
        np.testing.assert_array_equal(big, theirs.read(ours.write([[big]]))[0])
        np.testing.assert_array_equal(bigger, ours.read(theirs.write([[bigger]]))[0])


def test_a_slot_keeps_its_limit() -> None:
    """What would grow a slot over its limit is refused with both numbers."""
    with open_pair(limit=8192) as (ours, _), pytest.raises(SlotError, match=r"take 16\d\d\d bytes; a slot holds 8192"):
        ours.write([[np.zeros(2000)]])


def test_no_side_can_take_memory_away() -> None:
    """Shrinking is sealed off: the other process would die of SIGBUS while it reads."""
    with open_pair() as (ours, _), pytest.raises(PermissionError):
        os.ftruncate(ours.fd, 16)


def test_a_dtype_without_a_name_is_refused() -> None:
    """Complex numbers have no datatype in the protocol."""
    with open_pair() as (ours, _), pytest.raises(SlotError, match="complex128"):
        ours.write([[np.zeros(2, np.complex128)]])
