"""Joining requests loses none, mixes none, and keeps within the limits."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.serving.gateway.charges import Incident
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.answering import hand_out
from lastgood.serving.gateway.pool.batch import Batch, Outputs
from lastgood.serving.gateway.pool.batcher import Batcher
from lastgood.serving.gateway.pool.pending import Key, Part, Pending, Reason
from lastgood.serving.gateway.route import Lane, Pool, Tally

LANE = Lane(cast("Pool", None), "live", Tally(), 1.0)
KEYS: list[Key | None] = [(), ((3,),), ((4,),), None]


def make(rows: int, key: Key | None, flags: int = 0) -> Pending:
    """Make a request; bit 1 of flags: is what is left of a batch that failed, 2: was retried, 4: is finished."""
    pending = Pending(LANE, (np.full((rows, 2), rows, np.float32),), key, rows, 0.0, 1.0)
    pending.part = Part(Incident()) if flags & 1 else None
    pending.retried, pending.finished = bool(flags & 2), bool(flags & 4)
    return pending


def drain(batcher: Batcher) -> list[Batch]:
    """Take every batch."""
    batches = []
    while (batch := batcher.take()) is not None:
        batches.append(batch)
    return batches


requests = st.builds(make, st.integers(1, 12), st.sampled_from(KEYS), st.sampled_from([0, 0, 0, 0, 1, 2, 4]))


@given(st.lists(requests, max_size=60), st.integers(1, 20))
def test_every_request_is_in_exactly_one_batch(pendings: list[Pending], limit: int) -> None:
    """Batches partition what is not finished, by key, the oldest first, within the limit unless one request alone is larger."""
    batcher = Batcher(PoolLimits(batch_rows=limit))
    for pending in pendings:
        batcher.put(pending)
    batches = drain(batcher)
    taken = [pending for batch in batches for pending in batch.pendings]
    assert {id(pending) for pending in pendings if not pending.finished} == {id(pending) for pending in taken}
    assert len(taken) == len({id(pending) for pending in taken})
    for batch in batches:
        first = batch.pendings[0]
        assert len(batch.pendings) == 1 or all(pending.key == first.key is not None for pending in batch.pendings)
        assert len(batch.pendings) == 1 or all(pending.part is None and not pending.retried for pending in batch.pendings)
        assert batch.rows <= limit or len(batch.pendings) == 1
        assert batch.rows == sum(pending.rows for pending in batch.pendings)
    left = [pending for pending in pendings if not pending.finished]
    for batch in batches:
        assert batch.pendings[0] is left[0]  # the oldest is never passed over, so none can starve
        left = [pending for pending in left if all(pending is not gone for gone in batch.pendings)]


@pytest.mark.interpreted
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_outputs_are_split_as_inputs_were_joined(rows: list[int]) -> None:
    """Handing out the joined array gives each request its own rows back."""

    class Kept(Pending):
        def answered(self, outputs: Outputs, start: int, stop: int) -> None:
            pieces.append((outputs.shape(0, start, stop), outputs.values(0, start, stop)))

    pieces: list[tuple[tuple[int, ...], list[object]]] = []
    batch = Batch([Kept(LANE, (np.zeros((size, 1), np.float32),), (), size, 0.0, 1e9) for size in rows])
    array = np.arange(sum(rows) * 3, dtype=np.float64).reshape(-1, 3)
    assert hand_out(batch, [array], None, None, joins=True) == ["ok"] * len(rows)
    assert array.ravel().tolist() == [value for _, piece in pieces for value in piece]
    assert [(size, 3) for size in rows] == [shape for shape, _ in pieces]


@pytest.mark.interpreted
def test_an_answer_that_nobody_waits_for_is_late_and_not_invalid() -> None:
    """Impatient clients must not make a version look broken in its log."""

    class Kept(Pending):
        def answered(self, outputs: Outputs, start: int, stop: int) -> None:
            finished.append(f"{start} to {stop} of {outputs.rows}")

        def refused(self, reason: Reason, message: str) -> None:
            finished.append(f"{reason}: {message}")

    finished: list[str] = []
    batch = Batch([Kept(LANE, (np.zeros((1, 1), np.float32),), (), 1, 0.0, 1e9) for _ in range(4)])
    batch.pendings[1].refuse("timeout", "late")
    batch.pendings[3].refuse("timeout", "late")
    array, flags = np.zeros((4, 1)), np.array([False, False, True, True])
    assert ["ok", "late", "invalid", "late"] == hand_out(batch, [array], flags, None, joins=True)
    assert ["timeout: late", "timeout: late", "0 to 1 of 4"] == finished[:3]
    assert finished[3].startswith("invalid: ")
    assert 4 == len(finished)


def test_bytes_bound_a_batch() -> None:
    """Rows alone do not bound what is joined: wide rows make smaller batches."""
    batcher = Batcher(PoolLimits(batch_rows=64, batch_bytes=100))
    for _ in range(4):
        batcher.put(make(5, ()))  # 40 bytes each
    assert [len(batch.pendings) for batch in drain(batcher)] == [2, 2]


@given(st.integers(2, 64), st.sets(st.integers(0, 63), min_size=1, max_size=3))
def test_bad_requests_are_found_by_halves(size: int, places: set[int]) -> None:
    """Each fails alone, all others are answered, what came meanwhile is not drawn in, and one bad one takes few runs."""
    batcher, runs = Batcher(PoolLimits()), 0
    pendings = [make(1, ()) for _ in range(size)]
    bad = {id(pending) for place, pending in enumerate(pendings) if place in places}
    for pending in pendings:
        batcher.put(pending)
    first, answered, refused = batcher.take(), [], []
    assert first is not None
    batcher.put_back_halves(first.pendings, first.incident)
    later = make(1, ())
    batcher.put(later)
    while (batch := batcher.take()) is not None:
        runs += 1
        assert later not in batch.pendings or len(batch.pendings) == 1
        assert batch.incident is first.incident or later in batch.pendings
        if not any(id(pending) in bad for pending in batch.pendings):
            answered += batch.pendings
        elif len(batch.pendings) == 1:
            refused += batch.pendings
        else:
            batcher.put_back_halves(batch.pendings, batch.incident)
    assert bad == {id(pending) for pending in refused}
    assert size + 1 == len(answered) + len(refused)
    assert runs <= 2 * len(places) * (size - 1).bit_length() + 1
