"""What is most likely mistaken in the settings is said at the start."""

from pathlib import Path
from typing import Any

from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.serving.gateway.doubts import list_doubts
from lastgood.settings import FrontSettings, ModelSettings, Settings


def make_settings(folder: Path, **more: Any) -> Settings:
    """Give a project's settings, as if read from its file."""
    return Settings(project=folder, home=folder / "home", **more)


def test_replicas_of_a_model_that_nobody_knows_are_named(tmp_path: Path) -> None:
    """With the models that are known: by a table of their own, or by the registry."""
    tables = {name: ReplicaSettings(threads=2) for name in ("digit", "digits", "tumour")}
    settings = make_settings(tmp_path, serving=ServingSettings(models=tables), models={"tumour": ModelSettings()})
    (doubt,) = list_doubts(settings, ["digits"])
    assert "[serving.models.digit] is about a model that has no table [models.digit]" in doubt
    assert doubt.endswith("Known models: digits, tumour.")
    assert [] == list(list_doubts(settings, ["digit", "digits"]))


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, and one that holds no certificate."""
    path = tmp_path / "ca.pem"
    settings = make_settings(tmp_path, front=FrontSettings(ca_file=path))
    (missing,) = list_doubts(settings, [])
    assert missing.startswith(f"front.ca_file: {path} cannot be used")
    assert "No such file" in missing
    path.write_text("nothing", "ascii")
    (empty,) = list_doubts(settings, [])
    assert empty.startswith(f"front.ca_file: {path} cannot be used")
