"""The observer's process and what it is shown: nothing waits for it, and what it is not shown is counted."""

import asyncio
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lastgood.errors import LastgoodError
from lastgood.monitoring.drift.profile import make_profile
from lastgood.monitoring.drift.settings import DriftSettings
from lastgood.monitoring.predictions.columns import log_folder
from lastgood.monitoring.predictions.join import EARLY, LOOKED_UP
from lastgood.monitoring.predictions.read import read_rows
from lastgood.monitoring.predictions.settings import PredictionSettings
from lastgood.monitoring.predictions.write import PredictionLog
from lastgood.serving.gateway.observation import observer as module
from lastgood.serving.gateway.observation.feed import Feed
from lastgood.serving.gateway.observation.observation import Known
from lastgood.serving.gateway.observation.observer import ObserverProcess
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.route import Lane, Tally
from lastgood.serving.observer.desk import Desk
from lastgood.serving.observer.drift import DriftDesk
from lastgood.serving.observer.program import load_redaction
from lastgood.serving.observer.wire import Array, Asked, Labelled, News, Scope, Tensor, Watched

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Taker:
    """A port: takes what an observer would be told."""

    room = 1 << 20

    def __init__(self) -> None:
        self.told: list[Asked] = []

    def tell(self, message: msgspec.Struct) -> bool:
        assert isinstance(message, Asked)
        self.told.append(message)
        return True


class Narrow(Taker):
    """Takes so many inputs at most; -1: nothing at all."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def tell(self, message: msgspec.Struct) -> bool:
        assert isinstance(message, Asked)
        return len(message.inputs or ()) <= self.most and super().tell(message)


class Version:
    """As much of a pool as a feed looks at."""

    def __init__(self, versions: Any, number: int = 1) -> None:
        self.model, self.number, self.content = "m", number, versions.linear().content


def make_batch(pool: Any, count: int, *, serial: int = 0, dealt: Lane | None = None) -> Batch:
    lane = Lane(pool, "live", Tally(), float("inf"))
    pendings = []
    for index in range(count):
        pending = Pending(dealt or lane, (np.full((1, 3), index, np.float32),), ((3,),), 1, 0.0, 1.0)
        pending.runs_on = lane
        pending.request_id, pending.serial = str(index), serial
        pendings.append(pending)
    return Batch(pendings)


def show(feed: Feed, batch: Batch) -> None:
    feed.show(batch, [np.zeros((batch.rows, 3), np.float32)], ["ok"] * len(batch.pendings), joins=True)
    feed.flush()


def read_input(told: Asked) -> Array:
    assert told.inputs is not None
    return told.inputs[0].to_array()


def make_feed(taker: Taker, **settings: Any) -> Feed:
    feed = Feed(taker, seed=1, later=lambda *_: None)  # type: ignore[arg-type]
    feed.watch("m", PredictionSettings(**settings))
    return feed


def test_a_batch_is_shown_with_each_requests_facts(versions: Any) -> None:
    """Rows in the order of the requests."""
    taker = Taker()
    show(make_feed(taker), make_batch(Version(versions), 3))
    (told,) = taker.told
    assert (["0", "1", "2"], [1, 1, 1], [Scope("live", "", 0)]) == (told.ids, told.rows, told.scopes)
    assert [[0.0] * 3, [1.0] * 3, [2.0] * 3] == read_input(told).tolist()


def test_more_rows_than_may_be_looked_at_are_sampled_and_pairs_never_are(versions: Any) -> None:
    """About as many as the settings say; of a pair both answers are shown, or it would be none."""
    taker, pool = Taker(), Version(versions)
    feed = make_feed(taker, rows_per_second=100.0)
    for _ in range(500):
        show(feed, make_batch(pool, 10))
    assert 100 <= 10 * len(taker.told) <= 1500
    taker.told.clear()
    for _ in range(50):
        show(feed, make_batch(pool, 10, serial=5))
    assert 50 == len(taker.told)


def test_inputs_beyond_the_bytes_that_may_be_looked_at_are_sampled_and_answers_never_are(versions: Any) -> None:
    """A log of large inputs would be full of the last minute, and carrying them would cost more than answering."""
    taker, pool = Taker(), Version(versions)
    feed = make_feed(taker, rows_per_second=1e9, input_bytes_per_second=100.0 * 12)
    for _ in range(500):
        show(feed, make_batch(pool, 10))
    assert 5000 == sum(sum(told.rows) for told in taker.told)
    assert 100 <= sum(sum(told.rows) for told in taker.told if told.inputs) <= 1500


def test_of_pairs_that_are_not_sampled_nothing_is_logged(versions: Any) -> None:
    """Their answers are compared; their inputs, which would be logged, do not even leave the gateway."""
    taker, pool = Taker(), Version(versions)
    feed = make_feed(taker, sample=0.0)
    for _ in range(20):
        show(feed, make_batch(pool, 10, serial=5))
        show(feed, make_batch(pool, 10))
    assert [None] * 20 == [told.inputs for told in taker.told]
    assert [1] * 20 == [len(told.outputs) for told in taker.told]


def test_batches_of_a_moment_are_shown_as_one_where_they_are_alike(versions: Any) -> None:
    """In their order, after a hundredth of a second; another version's, or one without inputs, apart."""
    taker, due = Taker(), list[tuple[float, Any]]()
    feed = Feed(taker, seed=1, later=lambda seconds, call: due.append((seconds, call)))  # type: ignore[arg-type]
    feed.watch("m", PredictionSettings())
    one, other = Version(versions), Version(versions, 2)
    for batch in (make_batch(one, 2), make_batch(other, 1), make_batch(one, 3)):
        feed.show(batch, [np.full((batch.rows, 3), batch.rows, np.float32)], ["ok"] * batch.rows, joins=True)
    assert ([], 1, 0.01) == (taker.told, len(due), due[0][0])
    due[0][1]()
    assert [(1, ["0", "1", "0", "1", "2"]), (2, ["0"])] == [(told.version, told.ids) for told in taker.told]
    assert [2.0, 2.0, 3.0, 3.0, 3.0] == taker.told[0].outputs[0].to_array()[:, 0].tolist()
    assert [0.0, 1.0, 0.0, 1.0, 2.0] == read_input(taker.told[0])[:, 0].tolist()
    feed.show(make_batch(one, 1), [np.zeros((1, 3), np.float32)], ["ok"], joins=True)
    assert 2 == len(due)  # nothing waits without a call that ends it


def test_what_another_version_answered_is_no_evidence_about_the_one_it_was_dealt_to(versions: Any) -> None:
    """Its replica had died, and the baseline answered."""
    taker, pool = Taker(), Version(versions)
    dealt = Lane(Version(versions, 2), "candidate", Tally(), float("inf"), rollout="r", step=1)  # type: ignore[arg-type]
    show(make_feed(taker), make_batch(pool, 1, dealt=dealt))
    assert [Scope("live", "", 0)] == taker.told[0].scopes


def test_an_observer_without_room_is_shown_nothing_and_it_is_counted(versions: Any) -> None:
    """By the requests."""
    taker = Taker()
    taker.room = 0
    feed = make_feed(taker)
    show(feed, make_batch(Version(versions), 4))
    assert ([], 4) == (taker.told, feed.dropped["m"])


def test_what_is_too_large_with_its_inputs_is_shown_without_them(versions: Any) -> None:
    """Answers and labels join all the same; what is too large even so is counted."""
    taker = Narrow(0)
    feed = make_feed(taker)
    show(feed, make_batch(Version(versions), 4))
    assert ([4], 0, None) == ([len(told.ids) for told in taker.told], feed.dropped["m"], taker.told[0].inputs)
    taker.most = -1
    show(feed, make_batch(Version(versions), 4))
    assert 4 == feed.dropped["m"]


def test_a_frame_larger_than_what_may_wait_is_sent_when_nothing_waits(
    tmp_path: Path, tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose answers are that large would never be seen."""
    monkeypatch.setattr(module, "WAITING_BYTES", 1000)
    news: list[News] = []

    async def scenario() -> None:
        async with running(tmp_path, None, news) as process:
            tensor = Tensor("y", "<f4", (1, 2000), np.eye(1, 2000, 7, np.float32).tobytes())
            scope = [Scope("live", "", 0)]
            asked = Asked("m", 1, time.time(), ["a"], [0], [1], scope, [0], ["production"], [""], ["ok"], None, [tensor])
            await tools.wait_until(lambda: process.tell(asked))  # the introduction was sent
            await tools.wait_until(lambda: process.tell(Labelled("m", time.time(), ["a"], [7])))
            await tools.wait_until(lambda: any(own.correct for told in news for own in told.counted))

    run(scenario)


@asynccontextmanager
async def running(tmp_path: Path, program: Sequence[str] | None, news: list[News]) -> AsyncIterator[ObserverProcess]:
    process = ObserverProcess(tmp_path / "home", tmp_path, on_news=news.append, introduce=lambda: [Watched("m", {})])
    if program is not None:
        process._program = program
    process.start()
    try:
        yield process
    finally:
        await process.close()


def write_program(folder: Path, body: str) -> tuple[str, ...]:
    path = folder / "observer.py"
    path.write_text(textwrap.dedent(body), "utf-8")
    return (sys.executable, "-P", str(path))


def test_one_that_reads_nothing_makes_nobody_wait_and_is_ended_at_last(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames beyond the limit are refused at once."""
    monkeypatch.setattr(module, "WAITING_BYTES", 1 << 20)
    monkeypatch.setattr(module, "_END_SECONDS", 0.5)
    program = write_program(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pause()\n")

    async def scenario() -> None:
        async with running(tmp_path, program, []) as process:
            labels = Labelled("m", 0.0, ["x" * 1000] * 100, [1] * 100)
            taken = sum(process.tell(labels) for _ in range(100))
            assert 5 <= taken < 40
            assert process.room < 200_000

    run(scenario)


def test_one_that_talks_nonsense_is_ended_and_another_takes_its_place(tmp_path: Path, run: Run) -> None:
    """The gateway goes on."""
    program = write_program(
        tmp_path, "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\ns.sendall(bytes(8))\ns.recv(1 << 20)\n"
    )

    async def scenario() -> None:
        async with running(tmp_path, program, []) as process:
            seen: set[int | None] = set()
            async with asyncio.timeout(20):
                while len(seen - {None}) < 2:
                    seen.add(process.pid)
                    await asyncio.sleep(0)

    run(scenario)


def test_a_program_that_cannot_be_started_is_tried_again_and_stops_nothing(tmp_path: Path, run: Run) -> None:
    """It is not up, and nothing is taken."""

    async def scenario() -> None:
        async with running(tmp_path, ("/nowhere/python",), []) as process:
            assert not process.up
            assert not process.tell(Watched("m", {}))

    run(scenario)


@pytest.mark.parametrize(("inputs", "logged"), [([], 1), (None, 0)])
def test_a_model_of_texts_is_logged_without_them_and_what_is_not_shown_is_not(
    tmp_path: Path, inputs: list[Tensor] | None, logged: int
) -> None:
    """Texts are left out of a message, and are not the same as inputs that were left out on purpose."""
    desk = Desk("m", PredictionSettings(), tmp_path, redact=None)
    y = Tensor("y", "<i8", (1,), np.array([7]).tobytes())
    scope = [Scope("live", "", 0)]
    desk.take_batch(Asked("m", 1, time.time(), ["a"], [0], [1], scope, [0], ["production"], [""], ["ok"], inputs, [y]))
    desk.work(time.time(), everything=True)
    rows = read_rows(log_folder(tmp_path, "m"), columns=("id", "answer", "outcome"))
    assert [("a", 7, "ok")] * logged == list(zip(*(rows[name].tolist() for name in ("id", "answer", "outcome")), strict=True))


def test_rows_without_an_answer_are_not_kept_for_later(tmp_path: Path) -> None:
    """A version whose answers are all invalid costs no memory."""
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    desk = DriftDesk("m", DriftSettings(), tmp_path)
    desk.watch(1, make_profile({"x": x}, {"y": x}).to_bytes())
    tensors = [Tensor(name, x.dtype.str, (1, 3), x[:1].tobytes()) for name in "xy"]
    for ok in (False,) * 50 + (True,):
        desk.take_batch(
            Asked(
                "m",
                1,
                time.time(),
                ["a"],
                [0],
                [1],
                [Scope("live", "", 0)],
                [0],
                ["production"],
                [""],
                ["ok" if ok else "invalid"],
                tensors[:1],
                tensors[1:],
            )
        )
    watched = desk._watched[1]
    assert [1, 1, 1] == [len(watched.inputs["x"]), len(watched.outputs["y"]), len(watched.times)]


def test_a_version_that_is_put_away_takes_no_memory_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Its monitor is on the disk until it is watched again; rows that come late are nobody's."""
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    profile = make_profile({"x": x}, {"y": x}).to_bytes()
    tensors = [Tensor(name, x.dtype.str, (100, 3), x[:100].tobytes()) for name in "xy"]
    batch = Asked(
        "m", 1, time.time(), ["a"], [0], [100], [Scope("live", "", 0)], [0], ["production"], [""], ["ok"], tensors[:1], tensors[1:]
    )
    desk = DriftDesk("m", DriftSettings(), tmp_path)
    desk.watch(1, profile)
    desk.take_batch(batch)
    desk.forget(1)
    desk.forget(1)
    desk.take_batch(batch)
    assert {} == desk._watched
    assert [] == desk.work()
    desk.watch(1, profile)
    assert [100] == [drifted.rows for drifted in desk.work()]


def test_labels_are_counted_of_the_last_versions_that_were_up() -> None:
    """Those that are up stay; of those that went, however late their labels come, the last sixteen."""
    known = Known(PredictionSettings())

    def count(version: str) -> None:
        known.labelled[version, "live", ""] += 1
        known.correct[version, "live", ""] += 1
        known.note_counted(version)

    for number in range(1, 101):
        known.note_up(f"{number}")
        count(f"{number}")
        if number > 1:
            known.note_gone(f"{number}")
    kept = ["1", *(f"{number}" for number in range(85, 101))]
    assert kept == [version for version, _, _ in known.labelled]
    assert known.labelled == known.correct
    count("7")
    assert ["1", *kept[2:], "7"] == [version for version, _, _ in known.labelled]
    known.note_up("90")
    for number in range(200, 230):
        count(f"{number}")
    assert {"1", "90", *(f"{number}" for number in range(214, 230))} == {version for version, _, _ in known.labelled}


def test_what_it_is_told_last_is_written_before_it_ends(tmp_path: Path, run: Run) -> None:
    """Closing waits for it."""
    news: list[News] = []
    zeros = np.zeros((1, 3), np.float32)
    tensor = Tensor("x", zeros.dtype.str, zeros.shape, zeros.tobytes())

    async def scenario() -> None:
        async with running(tmp_path, None, news) as process:
            for number in range(200):
                scope = [Scope("live", "", 0)]
                assert process.tell(
                    Asked("m", 1, time.time(), [f"{number}"], [0], [1], scope, [0], ["production"], [""], ["ok"], [tensor], [tensor])
                )

    run(scenario)
    assert 1 == len(list((tmp_path / "home" / "predictions" / "m").glob("*.parquet")))


def test_a_label_of_long_ago_finds_its_request_in_the_log(tmp_path: Path) -> None:
    """It counts for the version that answered, and is no evidence in any rollout."""
    folder = tmp_path / "predictions" / "m"
    log = PredictionLog(folder, max_bytes=1 << 30, max_seconds=1e9)
    columns: dict[str, list[Any]] = {
        "time": [datetime(2026, 1, 1, tzinfo=UTC)],
        "id": ["old"],
        "version": [3],
        "role": ["baseline"],
        "traffic": ["production"],
        "slice": ["night"],
        "outcome": ["ok"],
        "answer": [7],
        "confidence": [0.5],
    }
    log.add(columns, {}, {})
    log.flush(everything=True)
    desk = Desk("m", PredictionSettings(), tmp_path, redact=None)
    desk.take_labels(Labelled("m", 100.0, ["old", "never"], [7, 1]))
    assert [] == desk.work(101.0)
    (found,) = desk.work(106.0)
    assert (3, "baseline", "night", "", 1, 1) == (found.version, found.role, found.slice, found.rollout, found.labelled, found.correct)
    _, _, (kept,) = desk.take_counts()
    assert 1 == kept.unknown


def test_many_labels_are_looked_up_together_and_each_one_is_counted(tmp_path: Path) -> None:
    """Also those that had no room to wait."""
    desk = Desk("m", PredictionSettings(log=False), tmp_path, redact=None)
    ids = [str(number) for number in range(EARLY + 7)]
    desk.take_labels(Labelled("m", 100.0, ids, [1] * len(ids)))
    unknown = []
    for _ in range(3):
        unknown.append(desk.take_counts()[2][0].unknown)
        assert [] == desk.work(106.0)
    assert [7, 7 + LOOKED_UP, 7 + 2 * LOOKED_UP] == unknown


def test_redacted_ids_are_looked_up_as_they_were_written(tmp_path: Path) -> None:
    """By the observer that comes after the one that wrote them."""

    def redact(table: dict[str, Any]) -> dict[str, Any]:
        return table | {"id": [key[::-1] for key in table["id"]]}

    tensor = Tensor("y", "<f4", (1, 2), np.array([[0.1, 0.9]], np.float32).tobytes())
    asked = Asked("m", 3, time.time(), ["old"], [0], [1], [Scope("live", "", 0)], [0], ["production"], [""], ["ok"], [tensor], [tensor])
    first = Desk("m", PredictionSettings(), tmp_path, redact=redact)
    first.take_batch(asked)
    first.work(100.0, everything=True)
    desk = Desk("m", PredictionSettings(), tmp_path, redact=redact)
    desk.take_labels(Labelled("m", 100.0, ["old"], [1]))
    (found,) = desk.work(106.0)
    assert (3, 1, 1) == (found.version, found.labelled, found.correct)


def test_looking_labels_up_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that takes long to read is read the less often; what waits meanwhile is looked up together, and nothing is lost."""
    now = [1000.0]
    asked: list[list[str]] = []

    def read(_: Path, ids: list[str]) -> list[dict[str, Any]]:
        asked.append(ids)
        now[0] += 2.0
        return []

    monkeypatch.setattr("lastgood.serving.observer.desk.find_answers", read)
    monkeypatch.setattr("lastgood.serving.observer.desk.time.monotonic", lambda: now[0])
    desk = Desk("m", PredictionSettings(), tmp_path, redact=None)
    for number in range(60):
        desk.take_labels(Labelled("m", 100.0 + number, [f"unknown-{number}"], [1]))
        desk.work(106.0 + number)
        now[0] += 1.0
    assert 2 == len(asked)
    assert [f"unknown-{number}" for number in range(sum(map(len, asked)))] == [key for ids in asked for key in ids]
    desk.work(200.0, everything=True)
    assert 60 == sum(map(len, asked))


def test_a_redaction_that_would_end_the_process_ends_nothing(tmp_path: Path) -> None:
    """Neither when it is imported nor when it is called: the problem is said, and nothing is written."""
    (tmp_path / "leaves_early.py").write_text("raise SystemExit(4)", "utf-8")
    with pytest.raises(LastgoodError, match=r"SystemExit\(4\)"):
        load_redaction(tmp_path, "leaves_early:redact")

    def redact(_: dict[str, Any]) -> dict[str, Any]:
        raise SystemExit(3)

    desk = Desk("m", PredictionSettings(), tmp_path, redact=redact)
    desk.take_labels(Labelled("m", 100.0, ["a"], [1]))
    assert [] == desk.work(106.0, everything=True)
    _, _, (kept,) = desk.take_counts()
    assert (1, 0, 1) == (kept.failed, kept.rows, kept.unknown)
    assert "SystemExit(3)" in kept.problem
