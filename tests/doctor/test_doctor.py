"""What `lastgood doctor` finds beforehand."""

import shutil
import socket
from importlib import metadata
from pathlib import Path

import pytest

from lastgood.doctor.machine import examine_machine
from lastgood.doctor.project import examine_pipelines
from lastgood.pipelines.health import Finding, examine_disk, examine_serving, tabulate
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with ports of its own and nothing running."""
    ports = zip(("REST", "GRPC", "CONTROL", "PREFECT", "PROMETHEUS", "ALERTMANAGER"), free_ports(6), strict=True)
    for name, port in ports:
        monkeypatch.setenv(f"LASTGOOD_PORT_{name}", str(port))
    (tmp_path / "lastgood.toml").write_text("", "utf-8")
    return load_settings(tmp_path)


def by_name(findings: "list[Finding]") -> dict[str, Finding]:
    return {own.name: own for own in findings}


def test_a_sound_machine_has_no_problem(settings: Settings) -> None:
    """Ports free, home writable, packages that work together."""
    assert [] == [own for own in examine_machine(settings) if own.status == "problem"]


@pytest.mark.parametrize(
    ("port", "service"),
    [("port_rest", "gateway"), ("port_grpc", "gateway"), ("port_control", "gateway"), ("port_prefect", "prefect")],
)
def test_a_taken_port_is_told(settings: Settings, port: str, service: str) -> None:
    """Before `lastgood up` would fail on it."""
    number = getattr(settings, port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", number))
        taken.listen()
        found = by_name(list(examine_machine(settings)))
    assert f"listens on {number}" in found[f"port of {service}"].sentence


def test_packages_that_break_each_other_are_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own bounds allow it; the first flow would not."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.155.2" if name == "fastapi" else real(name))
    assert "pip install 'fastapi<0.151'" in by_name(list(examine_machine(settings)))["packages"].sentence


def test_providers_that_are_not_there_are_told(settings: Settings) -> None:
    """Nothing about the default; a list without one that is there keeps the gateway from starting."""
    assert "providers" not in {finding.name for finding in examine_machine(settings)}
    serving = ServingSettings(providers=("cuda",), models={"m": ReplicaSettings(providers=("openvino", "cpu"))})
    told = [found for found in examine_machine(settings.model_copy(update={"serving": serving})) if found.name == "providers"]
    assert ["problem", "ok"] == [found.status for found in told]
    assert "has none of them, it has ['cpu']" in told[0].sentence


def test_a_token_others_can_read_is_told(settings: Settings, tmp_path: Path) -> None:
    """An empty one, one that is not there, and one that is well too."""
    file = tmp_path / "token"
    asked = settings.model_copy(update={"token_file": file})

    def look() -> Finding:
        return by_name(list(examine_machine(asked)))["token"]

    assert "cannot be read" in look().sentence
    file.touch(0o600)
    assert "is empty" in look().sentence
    file.write_text("secret", "utf-8")
    assert "ok" == look().status
    file.chmod(0o644)
    assert ("warning", False) == (look().status, "secret" in look().sentence)


def test_pipelines_are_loaded_before_anybody_releases_them(settings: Settings) -> None:
    """A file that cannot be imported, a gate that could never answer, and a model without a pipeline."""
    (settings.project / "broken.py").write_text("import nothing_of_this_name\n", "utf-8")
    (settings.project / "lastgood.toml").write_text(
        '[models.broken]\n[models.digits.gate]\naccuracy_floor = 95\n[models.gone]\npipeline = "gone.py:Gone"\n[models.tumour]\n', "utf-8"
    )
    found = by_name(list(examine_pipelines(load_settings(settings.project))))
    assert "nothing_of_this_name" in found["pipeline broken"].sentence
    assert "accuracy_floor = 95" in found["pipeline digits"].sentence
    assert ("problem", "problem", "ok") == tuple(found[f"pipeline {name}"].status for name in ("broken", "gone", "tumour"))


def test_without_a_gateway_the_report_goes_on(settings: Settings) -> None:
    """The registry and the disk are still looked at, and the worst stands first."""
    findings = examine_serving(settings)
    assert ["problem", "ok", "ok"] == [own.status for own in findings]
    assert "Start one: lastgood up" in tabulate(findings).rows[0][2]


def test_a_damaged_registry_is_a_problem(settings: Settings) -> None:
    """A byte more in the event log is found by the daily report."""
    Registry.open(settings, writer="cli").close()
    catalogue = settings.home / "registry" / "catalogue.db"
    catalogue.write_bytes(b"not a database" + catalogue.read_bytes()[14:])
    assert "problem" == by_name(examine_serving(settings))["registry"].status


@pytest.mark.parametrize(("free", "status"), [(100 << 20, "problem"), (1 << 30, "warning"), (9 << 30, "ok")])
def test_room_is_told_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    """A folder that is not there yet is asked about where it would be."""
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=free))
    assert status == examine_disk(tmp_path / "not" / "there").status
