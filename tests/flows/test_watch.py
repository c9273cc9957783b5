"""The watch flow, on a Prefect server of its own."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.settings import Settings, load_settings
from lastgood.tensors import TensorSpec

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An empty project and a throwaway server."""
    from prefect.testing.utilities import prefect_test_harness

    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    (tmp_path / "lastgood.toml").write_text("", "utf-8")
    monkeypatch.chdir(tmp_path)
    with prefect_test_harness():
        yield load_settings(tmp_path)


def test_a_model_without_data_is_said_to_have_none(settings: Settings, tmp_path: Path) -> None:
    """Neither drift nor its absence; and without a live version there is nothing to look at."""
    from lastgood.flows.watch import watch

    state = watch(return_state=True)
    assert "drifted: none; no data: none; looked at 0" == state.message
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    entry = FileEntry("model.onnx", 5, sha256(b"model").hexdigest())
    spec = (TensorSpec("x", "FP32", (-1, 2)),)
    with Registry.open(settings, writer="cli") as registry:
        version = registry.register("quick", Content((entry,), spec, spec, 0), {"model.onnx": model}, Record("ada", "test"), actor="ada")
        with registry.transaction() as transaction:
            transaction.move_alias("quick", "live", version.digest, actor="ada", why="test")
    state = watch(return_state=True)
    assert ("Completed", "drifted: none; no data: quick; looked at 1") == (state.name, state.message)
