"""A replica that is stopped or stuck is found out by its heart, and one that computes, or waits for a core, is left alone."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from lastgood.serving.backends.replica import Replica
from lastgood.serving.gateway.pool.pulse import Pulse
from lastgood.serving.replica.heart import BEAT_SECONDS, beating, make_heart, read_beats

HANG_SECONDS = 0.5


class Subject:
    """Stands for a replica: a heart that the test moves, and a real process."""

    def __init__(self, pid: int | None = None) -> None:
        self.pid = pid
        self.heart: int | None = 0

    def beats(self) -> int | None:
        """Give what the test set."""
        return self.heart


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    """Start a process with that program, which says when it is there; it is ended afterwards."""
    children: list[subprocess.Popen[bytes]] = []

    def go(program: str) -> int:
        child = subprocess.Popen([sys.executable, "-c", f"import time\nprint(flush=True)\n{program}"], stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child.pid

    yield go
    for child in children:
        child.kill()
        child.communicate()


def look(subject: Subject, times: list[float]) -> list[str | None]:
    """Look at a subject that holds a batch since second 0."""
    pulse = Pulse(cast("Replica", subject), HANG_SECONDS)
    pulse.rest(0.0)
    return [pulse.look(now) for now in times]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]


def await_state(pid: int, state: str) -> None:
    end = time.monotonic() + 10
    while state_of(pid) != state:
        assert time.monotonic() < end
        time.sleep(0.001)


SECONDS = [number / 10 for number in range(1, 11)]


def test_a_sleeping_process_without_a_beat_is_given_its_time(start: Callable[[str], int]) -> None:
    """Nothing before half a second of silence; the sentence says how long it was."""
    pid = start("time.sleep(600)")
    await_state(pid, "S")
    found = look(Subject(pid), SECONDS)
    assert [None] * 5 == found[:5]
    assert "gave no sign of life for 0.5 s while it held a batch, and was ended" == found[5]


def test_a_stopped_process_is_known_at_once(start: Callable[[str], int]) -> None:
    """At the first look that sees no new beat."""
    pid = start("time.sleep(600)")
    os.kill(pid, signal.SIGSTOP)
    await_state(pid, "T")
    assert [None, "was stopped while it held a batch, and was ended"] == look(Subject(pid), [0.1, 0.2])


def test_a_process_that_can_run_is_left_alone(start: Callable[[str], int]) -> None:
    """Whether it computes or waits for a core: also where no beat comes for a long time."""
    pid = start("while True: pass")
    assert [None] * 10 == look(Subject(pid), SECONDS)


def test_a_heart_that_beats_is_enough(start: Callable[[str], int]) -> None:
    """Whatever the process seems to do; and one that cannot be heard is left to the deadline."""
    pid = start("time.sleep(600)")
    subject = Subject(pid)
    pulse = Pulse(cast("Replica", subject), HANG_SECONDS)
    pulse.rest(0.0)
    for number, now in enumerate(SECONDS):
        subject.heart = number // 4  # a beat every 0.4 s
        assert pulse.look(now) is None
    subject.heart = None
    assert [None] * 10 == look(subject, SECONDS)


def test_a_gateway_that_was_away_does_not_judge(start: Callable[[str], int]) -> None:
    """A minute between two looks counts as two tenths of a second: the replica may have been away as long."""
    pid = start("time.sleep(600)")
    await_state(pid, "S")
    found = look(Subject(pid), [60.0, 120.0, 180.0, 240.0])
    assert [None, None, None] == found[:3]
    assert found[3] is not None


def test_a_process_that_cannot_be_seen_is_judged_by_its_heart() -> None:
    """No process id, or one that is not ours to see."""
    assert look(Subject(None), SECONDS)[5] is not None


def test_silence_begins_with_the_batch(start: Callable[[str], int]) -> None:
    """What was silent while it held nothing has its half second from then on."""
    pid = start("time.sleep(600)")
    await_state(pid, "S")
    pulse = Pulse(cast("Replica", Subject(pid)), HANG_SECONDS)
    pulse.rest(0.0)
    for number in range(20):
        pulse.look(number / 10)
    pulse.rest(2.0)
    assert [None] * 4 == [pulse.look(2.0 + number / 10) for number in range(1, 5)]


def test_a_heart_beats_beside_what_lets_go_of_the_interpreter_and_stops_with_what_does_not() -> None:
    """A sleep that keeps the interpreter silences it; one that does not, and a loop in Python, do not."""
    ours = make_heart()

    def count_during(something: Callable[[], object]) -> int:
        before = read_beats(ours)
        something()
        after = read_beats(ours)
        assert before is not None
        assert after is not None
        return after - before

    def spin() -> None:
        end = time.perf_counter() + 10 * BEAT_SECONDS
        while time.perf_counter() < end:
            pass

    microseconds = int(10 * BEAT_SECONDS * 1e6)
    with beating(os.dup(ours)):
        assert count_during(lambda: time.sleep(10 * BEAT_SECONDS)) >= 3
        assert count_during(spin) >= 3
        assert count_during(lambda: ctypes.PyDLL(None).usleep(microseconds)) <= 1
    assert 0 == count_during(lambda: time.sleep(3 * BEAT_SECONDS))
    assert "heart" not in {thread.name for thread in threading.enumerate()}
    os.ftruncate(ours, 0)
    assert read_beats(ours) is None
    os.close(ours)
