"""The commands that read and fill the registry, as a person calls them."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lastgood.cli import run
from lastgood.cli.alias import alias
from lastgood.cli.at import InvalidTimeError, parse_time
from lastgood.registry.content import FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.store.places import open_objects, open_store
from lastgood.settings import load_settings

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def two(home: Path, tmp_path: Path, capsys: Capture) -> Path:
    """A registry with digits@1, taken out and lifted, and digits@2, live."""
    for number, operator in enumerate(("Identity", "Relu"), 1):
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
        graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", [x], [y])
        path = tmp_path / f"{number}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        assert run(["import", str(path), "--model", "digits", "-m", f"reason {number}"]) == 0
    with Registry.open(load_settings(), writer="gateway") as registry:
        first, second = registry.versions("digits")
        with registry.transaction() as transaction:
            transaction.tombstone(first.digest, model="digits", cause="judge", actor="gateway", why="failed", payload={})
            transaction.move_alias("digits", "live", second.digest, actor="gateway", why="soaked")
            transaction.append("shared", model="digits", digest=second.digest, actor="gateway", payload={"share": 0.5, "why": "go on"})
    capsys.readouterr()
    return home


def add_changed(path: Path) -> None:
    """Register a file as it is, as model "broken"."""
    data = path.read_bytes()
    entry = FileEntry("model.onnx", len(data), hashlib.sha256(data).hexdigest())
    with Registry.open(load_settings(), writer="cli") as registry:
        content = replace(registry.content(registry.resolve("digits").digest), files=(entry,), golden=None)
        registry.register("broken", content, {"model.onnx": path}, Record(author="ada", why="broken"), actor="ada")


def answer(capsys: Capture, *arguments: str) -> str:
    assert run(arguments) == 0
    return capsys.readouterr().out


def read(capsys: Capture, *arguments: str) -> Any:
    return json.loads(answer(capsys, *arguments, "--json"))


def test_list_shows_models_and_versions(two: Path, capsys: Capture) -> None:
    """Newest first, with aliases and what was taken out."""
    assert [("digits", 2, 2, None)] == [(row["model"], row["newest"], row["live"], row["stable"]) for row in read(capsys, "list")]
    rows = read(capsys, "list", "digits")
    assert [("digits@2", ["live"], None), ("digits@1", [], "failed")] == [
        (row["version"], row["aliases"], row["tombstone"]) for row in rows
    ]
    lines = answer(capsys, "list", "digits").splitlines()
    assert "live" in lines[1]
    assert "tombstoned" in lines[2]
    assert "digits" in answer(capsys, "list").splitlines()[1]


def test_an_empty_registry_says_how_to_start(home: Path, capsys: Capture) -> None:
    """Nothing on stdout, a sentence on stderr."""
    for command in ("list", "log"):
        assert run([command]) == 0
        shown = capsys.readouterr()
        assert (shown.out, bool(shown.err)) == ("", True)


def test_show_tells_all_about_a_version(two: Path, capsys: Capture) -> None:
    """Content, record, tombstone, aliases; the digest is whole."""
    shown = read(capsys, "show", "digits@live")
    assert ("digits@2", ["live"], "reason 2", []) == (shown["version"], shown["aliases"], shown["record"]["why"], shown["lineage"])
    text = answer(capsys, "show", "digits@1")
    for part in (
        "digits@1",
        "TOMBSTONED",
        "failed",
        "reason 1",
        "FP32",
        "model.onnx",
        "golden.npz",
        read(capsys, "show", "digits@1")["digest"],
    ):
        assert part in text


def test_show_follows_the_parents(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """The versions a version came from, newest first; a parent that is not here ends the line."""
    import hashlib

    from lastgood.registry.content import Content, FileEntry, Record

    parent: str | None = "sha256:" + "0" * 64
    with Registry.open(load_settings(), writer="test") as registry:
        for text in "abc":
            (tmp_path / "f").write_text(text, "utf-8")
            content = Content((FileEntry("model.onnx", 1, hashlib.sha256(text.encode()).hexdigest()),), (), (), None)
            said = Record("ada", text, parent=parent)
            parent = registry.register("digits", content, {"model.onnx": tmp_path / "f"}, said, actor="ada").digest
    assert ["digits@2", "digits@1", "not in this registry"] == [step["version"] for step in read(capsys, "show", "digits")["lineage"]]
    assert "not in this registry" in answer(capsys, "show", "digits")


def test_log_is_newest_first_and_reads_as_sentences(two: Path, capsys: Capture) -> None:
    """Every event has a sentence, also one of a kind that only its writer knows."""
    lines = answer(capsys, "log").splitlines()[1:]
    for line, part in zip(
        lines,
        ("shared digits", "digits@live is now 2: soaked", "out as bad (by judge): failed", "registered digits@2", "registered digits@1"),
        strict=True,
    ):
        assert part in line
    assert "go on" in lines[0]
    assert [5, 4] == [event["position"] for event in read(capsys, "log", "digits", "--limit", "2")]
    with Registry.open(load_settings(), writer="gateway") as registry, registry.transaction() as transaction:
        for share in range(30):
            transaction.append("shared", model="digits", digest=None, actor="gateway", payload={"share": share / 100, "why": "go on"})
    # JSON is read by programs, which would not notice that something is missing.
    assert (31, 35) == (len(answer(capsys, "log", "digits").splitlines()), len(read(capsys, "log", "digits")))
    assert run(["log", "dgits"]) == 4
    assert "Did you mean 'digits'" in capsys.readouterr().err


def test_diff_shows_only_what_differs(two: Path, capsys: Capture) -> None:
    """By default; with --all what is equal too."""
    names = {(line["part"], line["name"]) for line in read(capsys, "diff", "digits@1", "digits@2")["lines"]}
    assert {("content", "digest"), ("files", "model.onnx"), ("files", "golden.npz"), ("record", "why")} == names
    everything = {(line["part"], line["name"]) for line in read(capsys, "diff", "digits@1", "digits@2", "--all")["lines"]}
    assert everything > names
    assert ("inputs", "x") in everything
    text = answer(capsys, "diff", "digits@1", "digits")
    assert "reason 1" in text
    assert ["Identity  1         0         -1", "Relu      0         1         +1"] == [
        line for line in text.splitlines() if line.startswith(("Identity", "Relu"))
    ]
    assert run(["diff", "digits", "digits@2"]) == 0
    assert "do not differ" in capsys.readouterr().err


def test_diff_compares_tensors_of_two_models(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """By value, with what is not finite said; in JSON every number is whole."""
    weights = np.arange(1, 5, dtype=np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "w.onnx"
    onnx.save(model, path)
    assert run(["import", str(path), "--model", "digits", "-m", "first"]) == 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights * np.array([2, 1, 1, np.nan], np.float32), "w"))
    onnx.save(model, path)
    add_changed(path)  # not imported: what answers with NaN is no model to release
    capsys.readouterr()
    assert run(["diff", "digits", "broken", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (tensor,) = found["tensors"]
    assert ("w", "changed", 2, 0.5, 0, 1) == (
        tensor["name"],
        tensor["change"],
        tensor["distance"]["changed"],
        tensor["distance"]["changed_ratio"],
        tensor["distance"]["nan_before"],
        tensor["distance"]["nan_after"],
    )
    assert 1.0 == tensor["distance"]["l2"]
    text = answer(capsys, "diff", "digits", "broken")
    assert "NaN: 0 and 1; left out of the distances" in text
    assert [] == found["graphs"]


def test_at_answers_what_was_live(two: Path, capsys: Capture) -> None:
    """Now a version, before it nothing; the future is said to be one."""
    text = answer(capsys, "at", "digits", "now")
    for part in ("digits@2", "gateway", "soaked", "stable: no version"):
        assert part in text
    assert read(capsys, "at", "digits", "3 weeks ago")["live"] is None
    assert run(["at", "digits", "2999-01-01"]) == 0
    assert "has not come yet" in capsys.readouterr().err
    assert run(["at", "digits", "yesteryear"]) == 2


@given(st.integers(0, 999999), st.sampled_from(["second", "minute", "hour", "day"]), st.sampled_from(["", "s"]))
def test_times_ago_are_counted_back(count: int, unit: str, plural: str) -> None:
    """A number of units before now."""
    now = datetime(4000, 1, 1, tzinfo=UTC)
    assert now - timedelta(**{f"{unit}s": count}) == parse_time(f"{count} {unit}{plural} ago", now=now)


def test_times_without_an_offset_are_local() -> None:
    """As the person's clock shows them; with an offset they are what they say."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    local = datetime(2026, 3, 1, 14, 3).astimezone()
    assert local == parse_time("2026-03-01T14:03", now=now)
    assert datetime(2026, 3, 1, 13, 3, tzinfo=UTC) == parse_time("2026-03-01 14:03+01:00", now=now)
    for text in ("", "2 fortnights ago", "2026-13-01", "999999 weeks ago"):
        with pytest.raises(InvalidTimeError, match="ISO 8601"):
            parse_time(text, now=now)


def test_verify_leaves_with_5_and_names_the_file(two: Path, capsys: Capture) -> None:
    """A flipped bit in any stored file; untouched, it leaves with 0."""
    assert "as recorded" in answer(capsys, "verify")
    assert read(capsys, "verify", "digits@live")["ok"] is True
    for stored in (two / "registry/files").glob("[0-9a-f][0-9a-f]/*"):
        data = stored.read_bytes()
        stored.chmod(0o644)
        stored.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        assert run(["verify"]) == 5
        shown = capsys.readouterr()
        assert str(stored) in shown.out
        assert str(stored) in shown.err
        assert run(["verify", "--json"]) == 5
        assert json.loads(capsys.readouterr().out)["ok"] is False
        stored.write_bytes(data)
    assert run(["verify"]) == 0


def test_gc_removes_what_no_version_needs(two: Path, tmp_path: Path, capsys: Capture) -> None:
    """What a registration left that did not come to its end, when it is an hour old."""
    left = tmp_path / "left"
    left.write_bytes(b"of no version" * 1000)
    before = {path for path in (two / "registry").rglob("*") if path.is_file()}
    open_store(open_objects(str(two / "registry"))).put(left)
    fresh = {path for path in (two / "registry").rglob("*") if path.is_file()} - before
    assert "`lastgood gc` removes them" in answer(capsys, "verify")
    assert f"{len(fresh)} more are needed by none" in answer(capsys, "gc")
    for path in fresh:
        os.utime(path, (time.time() - 3700,) * 2)
    assert (len(fresh), False) == tuple(read(capsys, "gc", "--dry-run")[name] for name in ("objects", "removed"))
    assert f"{len(fresh)} stored objects" in answer(capsys, "gc")
    assert not any(path.exists() for path in fresh)
    assert "that no version needs" in answer(capsys, "log")
    assert "no version" not in answer(capsys, "verify")


def test_export_and_import_keep_the_digest(two: Path, tmp_path: Path, capsys: Capture) -> None:
    """A version leaves and comes back; a full folder is refused with 2."""
    wrote = read(capsys, "export", "digits@live", str(tmp_path / "out"))
    assert {"model.onnx", "golden.npz", "content.json", "record.json"} == set(wrote["files"])
    assert wrote["version"]["digest"] == read(capsys, "import", str(tmp_path / "out"), "--model", "copy")["digest"]
    assert run(["export", "digits@live", str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert "Would write" in answer(capsys, "export", "digits", str(tmp_path / "new"), "--dry-run")
    assert not (tmp_path / "new").exists()


def test_import_says_what_it_did(two: Path, tmp_path: Path, capsys: Capture) -> None:
    """A dry run, a file that is there already, one that was taken out."""
    assert "Would register" in answer(capsys, "import", str(tmp_path / "2.onnx"), "--model", "other", "--dry-run")
    assert "was registered already" in answer(capsys, "import", str(tmp_path / "2.onnx"), "--model", "digits")
    assert run(["import", str(tmp_path / "1.onnx"), "--model", "digits"]) == 3
    assert "lastgood lift" in capsys.readouterr().err
    assert ["digits"] == [row["model"] for row in read(capsys, "list")]


def test_an_alias_of_ones_own(two: Path, capsys: Capture) -> None:
    """It points to a version until it is removed."""
    alias("digits@2", "audited", why="passed")
    assert "digits@audited is digits@2" in capsys.readouterr().out
    assert read(capsys, "show", "digits@audited")["version"] == "digits@2"
    alias("digits", "audited", why="withdrawn", remove=True)
    assert run(["show", "digits@audited"]) == 4


def test_what_people_wrote_does_not_steer_the_terminal(two: Path, tmp_path: Path, capsys: Capture) -> None:
    """Escape sequences and new lines in a reason are shown as spaces."""
    assert run(["import", str(tmp_path / "2.onnx"), "--model", "evil", "-m", "\x1b[2Jgone\nnew line"]) == 0
    capsys.readouterr()
    text = answer(capsys, "list", "evil")
    assert "\x1b" not in text
    assert " [2Jgone new line" in text


@pytest.mark.parametrize("name", ["list_", "show", "log", "diff", "at", "verify", "import_", "export", "alias"])
def test_commands_are_light_to_import(name: str) -> None:
    """Help answers at once because nothing heavy is imported before a command runs."""
    heavy = {"sqlalchemy", "numpy", "onnxruntime", "pydantic", "rich.table"}
    program = f"import sys, lastgood.cli.{name}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
