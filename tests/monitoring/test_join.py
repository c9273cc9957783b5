"""Answers, shadows and labels: every order gives the same counts."""

import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from lastgood.monitoring.predictions.join import NO_ANSWER, Joiner, Where, read_answers

LIVE = Where(1, "baseline", "", "r", 0)


@pytest.mark.parametrize(("answer", "shadow", "label", "index"), [(3, 3, 3, 4), (3, 4, 3, 2), (4, 3, 3, 3), (4, 5, 3, 4)])
def test_the_order_in_which_answer_shadow_and_label_come_changes_nothing(answer: int, shadow: int, label: int, index: int) -> None:
    """All six of them."""
    acts: list[Callable[[Joiner], None]] = [
        lambda joiner: joiner.add_answer("a", answer, LIVE, serial=7),
        lambda joiner: joiner.add_shadow(7, shadow, "r"),
        lambda joiner: joiner.add_label("a", label, 0.0),
    ]
    for order in itertools.permutations(acts):
        joiner = Joiner()
        for act in order:
            act(joiner)
        found = joiner.take()
        expected = [int(answer == shadow), int(answer != shadow), 0, 0, 0]
        expected[index] = 1
        assert {"r": expected} == found.pairs
        assert ({LIVE: 1}, int(answer == label)) == (dict(found.labelled), found.correct[LIVE])


def test_a_label_told_twice_counts_once() -> None:
    """The first one; also where it came before the answer."""
    joiner = Joiner()
    joiner.add_label("a", 3, 0.0)
    joiner.add_label("a", 4, 0.0)
    joiner.add_answer("a", 3, LIVE)
    joiner.add_label("a", 5, 0.0)
    found = joiner.take()
    assert (1, 1, 2) == (found.labelled[LIVE], found.correct[LIVE], found.repeated)


def test_what_was_given_is_not_given_again() -> None:
    """Counts are increments."""
    joiner = Joiner()
    joiner.add_answer("a", 3, LIVE)
    joiner.add_label("a", 3, 0.0)
    assert 1 == joiner.take().labelled[LIVE]
    assert not joiner.take().labelled


def test_the_oldest_request_gives_way_and_its_label_is_handed_back() -> None:
    """So that it can be looked up in the log."""
    joiner = Joiner(remembered=2)
    for key in ("a", "b", "c"):
        joiner.add_answer(key, 1, LIVE)
    joiner.add_label("a", 1, 5.0)
    joiner.add_label("b", 1, 5.0)
    assert {} == joiner.take_early(5.0)
    assert {"a": 1} == joiner.take_early(5.1)
    found = joiner.take()
    assert (1, 1) == (found.labelled[LIVE], found.forgotten)


def test_labels_that_give_way_to_others_are_counted() -> None:
    """The oldest first; what waits still is handed back for a look-up in one portion."""
    joiner = Joiner(early=2)
    for key in ("a", "b", "c"):
        joiner.add_label(key, 1, 0.0)
    assert {"b": 1, "c": 1} == joiner.take_early(1.0)
    assert 1 == joiner.take().dropped


def test_shadows_that_never_answer_take_bounded_room_also_under_one_id() -> None:
    """The oldest copies are given up; the newer ones are still compared."""
    joiner = Joiner(waiting=3)
    for serial in range(1, 8):
        joiner.add_answer("always the same", 1, LIVE, serial=serial)
    for serial in range(1, 8):
        joiner.add_shadow(serial, 1, "r")
    assert {"r": [3, 0, 0, 0, 0]} == joiner.take().pairs


def test_room_that_becomes_less_forgets_the_oldest() -> None:
    """Another model came, and the memory is shared."""
    joiner = Joiner(remembered=10)
    for number in range(10):
        joiner.add_answer(str(number), 1, LIVE)
    joiner.remember(3)
    joiner.add_answer("last", 1, LIVE)
    for key in ("7", "8", "9", "last"):
        joiner.add_label(key, 1, 0.0)
    assert 3 == joiner.take().labelled[LIVE]


def test_the_same_id_again_is_another_request() -> None:
    """The label is about the newest; the shadow's answer about the one it was copied from."""
    joiner = Joiner()
    joiner.add_answer("a", 1, LIVE, serial=1)
    joiner.add_answer("a", 2, LIVE, serial=2)
    joiner.add_shadow(1, 1, "r")
    joiner.add_label("a", 2, 0.0)
    found = joiner.take()
    assert ({"r": [1, 0, 0, 0, 0]}, 1) == (found.pairs, found.correct[LIVE])


def test_an_id_that_comes_again_is_the_newest() -> None:
    """Others are forgotten before it."""
    joiner = Joiner(remembered=2)
    for key in ("a", "b", "a", "c"):
        joiner.add_answer(key, 1, LIVE)
    for key in ("a", "b", "c"):
        joiner.add_label(key, 1, 0.0)
    assert 2 == joiner.take().labelled[LIVE]
    assert {"b": 1} == joiner.take_early(1.0)


def test_forgetting_costs_the_same_however_many_were_forgotten() -> None:
    """A gateway is watched for months, at thousands of requests a second."""

    def spend(joiner: Joiner, keys: range) -> float:
        began = time.thread_time()
        for key in keys:
            joiner.add_answer(str(key), 1, LIVE)
        return time.thread_time() - began

    few, many = Joiner(remembered=100), Joiner(remembered=100_000)
    spend(many, range(200_000))
    small, large = (min(spend(joiner, range(start, start + 5_000)) for start in range(200_000, 230_000, 5_000)) for joiner in (few, many))
    assert large < 8 * small


def test_an_output_that_is_no_label_is_not_judged() -> None:
    """A regression has answers and no classes."""
    joiner = Joiner()
    joiner.add_answer("a", NO_ANSWER, LIVE, serial=1)
    joiner.add_shadow(1, 3, "r")
    joiner.add_label("a", 3, 0.0)
    found = joiner.take()
    assert ({}, {}) == (found.pairs, dict(found.labelled))


def test_answers_are_read_from_probabilities_scores_labels_or_not_at_all() -> None:
    """And only probabilities say how sure the model is."""
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32)
    answers, confidence = read_answers([probabilities], 2)
    assert [1, 0] == answers.tolist()
    assert np.allclose([0.8, 0.9], confidence)
    answers, confidence = read_answers([probabilities * 3 - 2], 2)
    assert [1, 0] == answers.tolist()
    assert np.isnan(confidence).all()
    with warnings.catch_warnings(action="error"):  # scores too large for float32 are no probabilities
        answers, confidence = read_answers([np.array([[1e308, 1.7e308], [np.inf, -np.inf]])], 2)
    assert [1, 0] == answers.tolist()
    assert np.isnan(confidence).all()
    assert [5, 7] == read_answers([np.array([[5], [7]])], 2)[0].tolist()
    assert [NO_ANSWER, NO_ANSWER] == read_answers([np.array([[0.5], [0.7]])], 2)[0].tolist()
