"""What gateway and observer tell each other comes out as it went in, however the socket cuts it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import IntegrityError
from lastgood.serving.observer.wire import Frames, Kept, Labelled, News, Tensor, ToObserver, Watched, pack

LABELS = st.lists(st.tuples(st.text(min_size=1, max_size=9), st.integers(0, 2**31 - 1)), max_size=9)


@given(batches=st.lists(LABELS, max_size=6), cut=st.integers(1, 64))
def test_messages_come_out_whole_and_in_order(batches: list[list[tuple[str, int]]], cut: int) -> None:
    """Whatever pieces they arrive in."""
    sent = [Labelled("m", 1.5, [key for key, _ in labels], [label for _, label in labels]) for labels in batches]
    stream = b"".join(map(pack, sent))
    frames, decoder = Frames(), msgspec.msgpack.Decoder(ToObserver)
    found = [decoder.decode(frame) for start in range(0, len(stream), cut) for frame in frames.feed(stream[start : start + cut])]
    assert sent == found


def test_every_kind_of_message_is_told_from_the_others() -> None:
    """By its tag."""
    watched = Watched("m", {"sample": 0.5})
    assert watched == msgspec.msgpack.decode(next(iter(Frames().feed(pack(watched)))), type=ToObserver)
    news = News(kept=[Kept("m", 1, 2, 3, 4, "full")])
    assert news == msgspec.msgpack.decode(next(iter(Frames().feed(pack(news)))), type=News)


def test_a_frame_that_says_it_is_too_long_is_refused_before_it_is_gathered() -> None:
    """The other side is broken."""
    with pytest.raises(IntegrityError, match="4294967295 bytes"):
        list(Frames().feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2", "|b1", "|u1", "<i8"])
def test_arrays_travel_bit_for_bit(kind: str) -> None:
    """Every numeric type."""
    array = np.arange(6).astype(kind).reshape(2, 3)
    tensor = msgspec.msgpack.decode(msgspec.msgpack.encode(Tensor("x", array.dtype.str, array.shape, array.tobytes())), type=Tensor)
    assert np.array_equal(array, tensor.to_array())
    assert array.dtype == tensor.to_array().dtype
