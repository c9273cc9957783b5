"""Chunks: nothing is lost, and what is inserted changes the chunks around it alone."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.store.chunks import LEAST_BYTES, MOST_BYTES, find_cuts


def cut(data: bytes) -> list[bytes]:
    ends = find_cuts(data)
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(seed=st.integers(0, 2**32), size=st.integers(0, 1 << 20), period=st.sampled_from([0, 1, 100]))
def test_chunks_are_the_data_and_of_bounded_size(seed: int, size: int, period: int) -> None:
    """Of noise, of one byte again and again, and of what repeats itself."""
    data = np.random.default_rng(seed).bytes(period or size)
    data = (data * (size // period + 1))[:size] if period else data
    chunks = cut(data)
    assert data == b"".join(chunks)
    assert all(LEAST_BYTES <= len(chunk) <= MOST_BYTES for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= MOST_BYTES for chunk in chunks[-1:])


@pytest.mark.parametrize("place", [0, 1_234_567, 3_000_000])
def test_what_is_inserted_or_removed_changes_the_chunks_around_it_alone(place: int) -> None:
    """All others are kept once."""
    data = np.random.default_rng(1).bytes(3_000_000)
    before = set(cut(data))
    for changed in (data[:place] + b"inserted" + data[place:], data[:place] + data[place + 1000 :]):
        assert len(set(cut(changed)) - before) <= 3


def test_where_chunks_end_never_changes() -> None:
    """Files of years ago share chunks with those of today."""
    assert [28942, 59448, 99344, 144632] == find_cuts(b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(16_000)))[
        :4
    ]
