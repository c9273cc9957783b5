"""Elements come back bit for bit, whatever their bits, and smaller where they are neighbours of what came before."""

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.errors import SegmentDamagedError
from lastgood.registry.store import elements
from lastgood.registry.store.elements import KINDS, Kind

kinds = st.sampled_from(sorted(KINDS))
PAIRS: dict[str, tuple[Callable[[bytes, bytes, Kind], bytes], Callable[[bytes, bytes, Kind], elements.Bytes]]] = {
    "xor": (elements.encode_xor, elements.decode_xor),
    "difference": (elements.encode_difference, elements.decode_difference),
}


@given(name=kinds, data=st.binary(max_size=4096))
def test_alone_any_bits_come_back(name: str, data: bytes) -> None:
    """NaN of every kind, infinities, negative zero, subnormal numbers."""
    kind = KINDS[name]
    data = data[: len(data) // kind.width * kind.width]
    assert data == bytes(elements.decode_alone(elements.encode_alone(data, kind), len(data), kind))


@pytest.mark.parametrize("how", sorted(PAIRS))
@given(name=kinds, data=st.binary(max_size=4096), seed=st.integers(0, 2**32 - 1))
def test_as_a_difference_any_bits_to_any_bits_come_back(how: str, name: str, data: bytes, seed: int) -> None:
    """Whether they have anything in common or not."""
    kind, (encode, decode) = KINDS[name], PAIRS[how]
    data = data[: len(data) // kind.width * kind.width]
    base = np.random.default_rng(seed).bytes(len(data))
    assert data == bytes(decode(encode(data, base, kind), base, kind))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_more_than_a_block_comes_back(name: str) -> None:
    """Groups go on from one block to the next, and the last block is not full."""
    kind, random = KINDS[name], np.random.default_rng(1)
    base = random.bytes((3 << 17) + 5 * kind.width)
    data = (np.frombuffer(base, kind.unsigned) + random.integers(0, 9, len(base) // kind.width).astype(kind.unsigned)).tobytes()
    for encode, decode in PAIRS.values():
        assert data == bytes(decode(encode(data, base, kind), base, kind))


@pytest.mark.parametrize(("rate", "most"), [(1e-4, 0.66), (1e-5, 0.57)])
def test_a_step_of_training_is_smaller_as_a_difference_than_as_xor_or_alone(rate: float, most: float) -> None:
    """By 3 % at least than XOR; steps of one size whatever the weight, as Adam takes them."""
    random = np.random.default_rng(0)
    before = random.normal(scale=0.05, size=1 << 18).astype(np.float32)
    after = (before + rate * 8 * random.normal(size=1 << 18)).astype(np.float32)
    kind, data, base = KINDS["F32"], after.tobytes(), before.tobytes()
    alone, xor, difference = (
        len(found) / len(data)
        for found in (
            elements.encode_alone(data, kind),
            elements.encode_xor(data, base, kind),
            elements.encode_difference(data, base, kind),
        )
    )
    assert difference < 0.97 * xor < xor < alone < 0.9
    assert difference < most


@given(cut=st.integers(0, 200), place=st.integers(0, 2000), bit=st.integers(0, 7))
def test_damage_is_an_error_or_other_bytes_and_never_anything_else(cut: int, place: int, bit: int) -> None:
    """Who reads compares the hash; what is read takes no more memory than what was written."""
    kind, random = KINDS["F32"], np.random.default_rng(2)
    base = random.bytes(4000)
    blob = bytearray(elements.encode_difference((np.frombuffer(base, "<u4") + 3).tobytes(), base, kind))
    blob[place % len(blob)] ^= 1 << bit
    del blob[len(blob) - cut :]
    with contextlib.suppress(SegmentDamagedError):
        assert len(base) == len(elements.decode_difference(blob, base, kind))
