"""Values of ``lastgood.toml`` that cannot be are refused in a sentence, with their place and what may stand there."""

import os
from pathlib import Path

import pytest

from lastgood.errors import ConfigurationError
from lastgood.settings import Settings, load_settings
from lastgood.stack.services import environment

PORTS = [name for name in Settings.model_fields if name.startswith("port_")]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LASTGOOD_")]:
        monkeypatch.delenv(name)


def load(folder: Path, text: str) -> Settings:
    (folder / "lastgood.toml").write_text(text, "utf-8")
    return load_settings(folder)


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("value", ["true", "false"])
def test_a_truth_value_is_no_port(tmp_path: Path, name: str, value: str) -> None:
    """Though Python would take it for 1 or 0."""
    with pytest.raises(ConfigurationError, match=f"{name} = {value.title()}: expected a port's number"):
        load(tmp_path, f"{name} = {value}")


def test_a_port_is_one_parts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones are named both, also against a default and from the environment; gRPC's 0 is no port."""
    for index, name in enumerate(PORTS):
        for other in PORTS[index + 1 :]:
            with pytest.raises(ConfigurationError, match=f"{name} and {other} are both 9100; expected"):
                load(tmp_path, f"{name} = 9100\n{other} = 9100")
    with pytest.raises(ConfigurationError, match="port_rest and port_control are both 8000"):
        load(tmp_path, "port_control = 8000")
    monkeypatch.setenv("LASTGOOD_PORT_GRPC", "8002")
    with pytest.raises(ConfigurationError, match="port_grpc and port_control are both 8002"):
        load(tmp_path, "")
    monkeypatch.setenv("LASTGOOD_PORT_GRPC", "0")
    assert 0 == load(tmp_path, "").port_grpc


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "true", '"on"', "[1]"])
def test_a_share_of_the_access_log_is_one(tmp_path: Path, value: str) -> None:
    """One problem, one sentence."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"[telemetry]\naccess_log = {value}")
    assert 1 == str(caught.value).count("access_log")
    assert str(caught.value).endswith(': expected "off" or a share from 0 to 1.')


@pytest.mark.parametrize("value", ["0", "1", "0.25", '"off"'])
def test_a_share_or_none_is_taken(tmp_path: Path, value: str) -> None:
    """As it stands."""
    assert value.strip('"') == f"{load(tmp_path, f'[telemetry]{chr(10)}access_log = {value}').telemetry.access_log:}".removesuffix(".0")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fo = 1", r"Known settings: backend, .*token_file\.$"),
        ("[front]\nca = 1", r"Known settings of \[front\]: awake_seconds, ca_file, tls_certificate, tls_key, unix_socket\.$"),
        ("[models.m]\ngat = 1", r"Known settings of \[models\.m\]: gate, pipeline, predictions, rollout, update\.$"),
        ("[docker]\ncpu = 1", r"Known settings of \[docker\]: cpus, image, memory_bytes, pids, socket\.$"),
    ],
)
def test_an_unknown_name_lists_those_of_its_table(tmp_path: Path, text: str, names: str) -> None:
    """Not those of another one."""
    with pytest.raises(ConfigurationError, match=names):
        load(tmp_path, text)


def test_an_unknown_name_of_a_receiver_lists_the_receivers(tmp_path: Path) -> None:
    """Also below ``[oncall]``, as they are written there."""
    settings = load(tmp_path, '[oncall.email]\nto = ["a@example.org"]\nfro = "b@example.org"\nsmarthost = "mail.example.org:587"')
    with pytest.raises(ConfigurationError, match=r"Known settings of \[oncall\.email\]: .*from, .*smarthost") as caught:
        _ = settings.people
    assert "b@example.org" not in str(caught.value)


def test_the_files_token_is_beside_the_file_and_the_environments_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever somebody stands in the project; a link stays one, for a mounted secret is replaced by another link's turn."""
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    (tmp_path / "token").symlink_to("secret")
    load(tmp_path, 'token_file = "token"')
    assert tmp_path / "token" == load_settings().token_file
    monkeypatch.setenv("LASTGOOD_TOKEN_FILE", "other")
    assert tmp_path / "below" / "other" == load_settings().token_file


def test_a_process_that_is_started_elsewhere_has_all_of_the_projects_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the home is not in the project: what must not be logged is in the file alone."""
    project, home = tmp_path / "project", tmp_path / "home"
    for folder in (project, home):
        folder.mkdir()
    monkeypatch.setenv("LASTGOOD_HOME", str(home))
    settings = load(project, 'token_file = "token"\n[models.m.predictions]\nlog = false\n[telemetry]\naccess_log = 1.0')
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    places = {"database": settings.database_url, "files": settings.files_place}  # which a child is told, wherever they are
    assert settings.model_copy(update=places) == load_settings()
    assert {"log": False} == load_settings().models["m"].predictions
