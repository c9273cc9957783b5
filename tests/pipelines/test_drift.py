"""A window of the prediction log beside the reference of the version that answered."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lastgood.errors import IntegrityError
from lastgood.pipelines.compress import compress
from lastgood.pipelines.data import Array
from lastgood.pipelines.drift import NoProfileError, NoRowsError, WindowReport, compare_window, read_profile
from lastgood.pipelines.drift_page import tabulate, write_markdown, write_page
from lastgood.pipelines.evaluation import load_evaluation
from lastgood.pipelines.gate import gate
from lastgood.pipelines.register import register
from lastgood.pipelines.run import create_run
from lastgood.pipelines.train import EVALUATION, train
from lastgood.registry.content import Content, Record
from lastgood.registry.registry import Registry
from lastgood.runtime import open_session
from lastgood.settings import Settings

NOW = datetime(2026, 5, 4, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def released(project: Settings) -> Settings:
    """A project with quick@1 registered."""
    run = create_run(project, "quick", seed=1, author="ada", why="test")
    train(run)
    compress(run)
    gate(run, live=None)
    with Registry.open(project, writer="cli") as registry:
        register(run, registry)
        registry.materialize(registry.resolve("quick@1").digest, project.home / "served")
    np.save(project.home / "rows.npy", load_evaluation(run.folder / EVALUATION).sets["noisy"].x)
    return project


def log(settings: Settings, rows: Array, *, version: int = 1, traffic: str = "user", name: str = "a") -> None:
    """Write rows as answered a minute apart by the served file."""
    session = open_session(settings.home / "served" / "model.onnx")
    names = [own.name for own in session.get_outputs()]
    answers = dict(zip(names, session.run(names, {"input": rows}), strict=True))
    times = [NOW - timedelta(minutes=1 + number) for number in range(len(rows))]
    columns = {
        "time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "version": pa.array([version] * len(rows), pa.int32()),
        "traffic": pa.array([traffic] * len(rows)),
        "in/input": pa.array(rows.tolist(), pa.list_(pa.float32(), rows.shape[1])),
        **{f"out/{own}": pa.array(answer.reshape(len(rows), -1).tolist(), pa.list_(pa.float32())) for own, answer in answers.items()},
    }
    folder = settings.home / "predictions" / "quick"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def compare(settings: Settings, *, traffic: str | None = None) -> WindowReport:
    with Registry.open(settings, writer="cli") as registry:
        return compare_window(settings, registry, "quick@1", since=NOW - DAY, until=NOW, traffic=traffic)


def test_rows_without_a_feature_are_told_where_the_others_are_too_few(released: Settings) -> None:
    """How many they are and what they lack; rows that fit are compared as ever."""
    rows = np.load(released.home / "rows.npy")
    log(released, rows, name="b")
    path = released.home / "predictions" / "quick" / "b.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["in/input"]), path)
    with pytest.raises(NoRowsError, match=r"0 rows of quick@1 .* and 1200 in files without in/input"):
        compare(released)
    log(released, rows)
    assert len(rows) == compare(released).rows


def test_a_day_like_the_tested_rows_has_nothing_to_show_and_a_shifted_one_names_its_feature(released: Settings) -> None:
    """Only that one of the inputs; the estimate of accuracy comes with it."""
    rows = np.load(released.home / "rows.npy")
    log(released, rows)
    quiet = compare(released)
    assert [] == quiet.moved
    assert "quick@1: nothing moved, 1,200 rows" in quiet.sentence
    assert quiet.accuracy is not None
    assert abs(quiet.accuracy.accuracy - quiet.accuracy.reference) < 0.05
    log(released, rows + np.array([0, 0, 0, 0.5, 0], np.float32))
    moved = compare(released)
    assert ["in/input[3]"] == [name for name in moved.moved if name.startswith("in/")]
    assert "in/input[3]" == moved.ranked[0][1]


def test_rows_of_other_versions_times_and_traffic_are_left_out(released: Settings) -> None:
    """What the version did not answer says nothing about it."""
    rows = np.load(released.home / "rows.npy")
    log(released, rows[:400], name="own")
    log(released, rows[:500] + 9, version=2, name="other")
    log(released, rows[:300] + 9, traffic="evaluation", name="evaluation")
    assert 700 == compare(released).rows
    found = compare(released, traffic="user")
    assert (400, []) == (found.rows, found.moved)


def test_no_rows_and_no_reference_are_said_not_guessed(released: Settings) -> None:
    """No data is a third answer; so is a version that came without a reference."""
    with pytest.raises(NoRowsError, match="has 0 rows of quick@1 from 2026-05-03 06:30"):
        compare(released)
    with Registry.open(released, writer="cli") as registry:
        content = registry.content(registry.resolve("quick@1").digest)
        bare = Content(content.files, content.inputs, content.outputs, content.batching, content.golden)
        files = {own.path: released.home / "served" / own.path for own in content.files}
        version = registry.register("quick", bare, files, Record("ada", "imported"), actor="ada")
        with pytest.raises(NoProfileError, match="no drift reference"):
            read_profile(registry, version)


def test_a_log_of_other_rows_is_refused(released: Settings) -> None:
    """As many elements as the model takes."""
    log(released, np.load(released.home / "rows.npy"))
    file = released.home / "predictions" / "quick" / "a.parquet"
    table = pq.read_table(file)
    narrow = pa.array([[1.0, 2.0]] * len(table), pa.list_(pa.float32(), 2))
    pq.write_table(table.set_column(table.column_names.index("in/input"), "in/input", narrow), file)
    with pytest.raises(IntegrityError, match="'input'"):
        compare(released)


class Outside(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note addresses that are not inside the page."""
        self.fetched += [
            f"{tag} {value}" for name, value in attrs if name in {"src", "href", "xlink:href"} and not (value or "").startswith("#")
        ]


def test_the_page_stands_alone_and_the_table_has_every_feature(released: Settings, tmp_path: Path) -> None:
    """Histograms are in it; nothing is fetched; missing values are noted."""
    rows = np.load(released.home / "rows.npy")
    rows[::4, 2] = np.nan
    log(released, rows)
    report = compare(released)
    page, outside = write_page(report), Outside()
    outside.feed(page)
    assert [] == outside.fetched
    assert page.count("<svg") == min(12, len(report.comparisons))
    assert "missing: 0.0% and 25.0%" in page
    table = tabulate(report)
    assert sorted(report.profile.plan.names) == sorted(row[0] for row in table.rows)
    markdown = write_markdown(report)
    assert "data:image/svg+xml;base64," in markdown
    assert report.sentence in markdown
