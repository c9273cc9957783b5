"""What is most likely mistaken in the settings is said at the start."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from lastgood.ports import free_ports
from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.serving.gateway.doubts import list_doubts
from lastgood.serving.gateway.program import Gateway
from lastgood.settings import FrontSettings, ModelSettings, Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]


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


def test_the_gateway_says_them_when_it_starts(run: Run, tmp_path: Path) -> None:
    """As warnings in its log, and serves."""
    rest, control = free_ports(2)
    tables = ServingSettings(models={"digit": ReplicaSettings(threads=2)})
    settings = make_settings(tmp_path, port_rest=rest, port_grpc=0, port_control=control, serving=tables)

    async def scenario() -> None:
        gateway = Gateway(settings)
        with capture_logs() as lines:
            await gateway.start()
        await gateway.stop()
        warnings = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert list(list_doubts(settings, [])) == warnings

    run(scenario)
