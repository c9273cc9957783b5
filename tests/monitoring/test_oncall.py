"""The ``[oncall]`` tables: what is refused, in which words, and before anything starts."""

from pathlib import Path

import pytest

from lastgood.errors import ConfigurationError
from lastgood.settings import Settings, load_settings
from lastgood.stack.services import build_services

EMAIL = '[oncall.email]\nto = ["a@example.org"]\nfrom = "b@example.org"\nsmarthost = "mail.example.org:587"\n'
SECRET = "https://hooks.example.org/services/T0/B0/verysecret"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a project whose environment sets nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LASTGOOD_ONCALL", raising=False)
    return tmp_path


def load(project: Path, text: str) -> Settings:
    (project / "lastgood.toml").write_text(text, "utf-8")
    return load_settings(project)


def test_paths_of_secrets_start_at_the_project(project: Path) -> None:
    """Wherever the command is run; absolute ones stay."""
    settings = load(
        project, '[oncall.slack]\napi_url_file = "secrets/slack"\nchannel = "#a"\n[oncall.pagerduty]\nrouting_key_file = "/etc/key"\n'
    )
    assert settings.people.slack is not None
    assert settings.people.pagerduty is not None
    assert project / "secrets" / "slack" == settings.people.slack.api_url_file
    assert Path("/etc/key") == settings.people.pagerduty.routing_key_file
    assert ("critical",) == settings.people.pagerduty.severities
    assert ("critical", "warning") == settings.people.slack.severities


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (EMAIL.replace("a@example.org", "nobody"), "oncall.email.to.0: expected one address"),
        (EMAIL.replace(":587", ""), "expected HOST:PORT"),
        (f'{EMAIL}username = "u"\n', "username and password_file belong together"),
        (f'{EMAIL}severities = ["urgent"]\n', "oncall.email.severities.0"),
        ('[oncall.slack]\nchannel = "#a"\n', "oncall.slack.api_url_file: Field required"),
        ('[oncall.slack]\nchannel = "a b"\napi_url_file = "x"\n', "expected a channel such as #ml-alerts"),
        ('[oncall.webhook]\nurl = "ftp://example.org"\n', "expected an address that begins with https://"),
        ('[oncall.webhook]\nurl = "https://user:hunter2@example.org"\n', "put a token into token_file"),
        ("[oncall]\nupdate_seconds = 0\n", "oncall.update_seconds"),
        ('[oncall.pager]\nkey = "x"\n', "oncall.pager: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_right_is_a_sentence(project: Path, text: str, words: str) -> None:
    """With the name of the setting."""
    with pytest.raises(ConfigurationError) as caught:
        assert load(project, text).people
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f'[oncall.slack]\napi_url = "{SECRET}"\nchannel = "#a"\n',
        f'[oncall.slack]\napi_url_file = ["{SECRET}"]\nchannel = "#a"\n',
        f'{EMAIL}password = "{SECRET}"\n',
        f'{EMAIL}password_file = "x"\nfrom_password = "{SECRET}"\n',
        f'[slack]\napi_url = "{SECRET}"\n',
        f'[oncall.webhook]\nurl = "ftp://user:{SECRET}@example.org"\n',
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(project: Path, text: str) -> None:
    """Error messages end in logs."""
    with pytest.raises(ConfigurationError) as caught:
        assert load(project, text).people
    assert "verysecret" not in str(caught.value)


def test_a_variable_that_is_no_json_is_a_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table can come from the environment too."""
    monkeypatch.setenv("LASTGOOD_ONCALL", '{"wait_seconds": 3}')
    assert 3.0 == load(project, "").people.wait_seconds
    monkeypatch.setenv("LASTGOOD_ONCALL", "slack")
    with pytest.raises(ConfigurationError, match="must hold JSON"):
        load(project, "")


def start(settings: Settings) -> None:
    """Write what Alertmanager would read, as its start does."""
    (service,) = build_services(settings, only=("alertmanager",))[0]
    assert service.prepare is not None
    service.prepare()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds 0 lines"),
        (f"{SECRET}\nmore\n", "holds 2 lines"),
        ("hooks.example.org", "no address"),
    ],
)
def test_a_secrets_file_is_read_before_anything_starts(project: Path, content: str | None, words: str) -> None:
    """Not at night, when somebody is to be told."""
    settings = load(project, '[oncall.slack]\napi_url_file = "slack"\nchannel = "#a"\n')
    if content is not None:
        (project / "slack").write_text(content, "utf-8")
    with pytest.raises(ConfigurationError, match=words) as caught:
        start(settings)
    assert "[oncall.slack] api_url_file" in str(caught.value)
    assert "verysecret" not in str(caught.value)
    assert not (settings.home / "signals").exists()


def test_without_alertmanager_it_is_said_that_nobody_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is set and never used must not look as if it were."""
    settings = load(project, EMAIL)
    monkeypatch.setenv("PATH", str(project))
    _, missing = build_services(settings)
    assert any("Nobody is told by email." in part.sentence for part in missing)


@pytest.mark.parametrize(
    "text",
    [
        EMAIL.replace(":587", ":99999"),
        EMAIL.replace(":587", ":²"),
        '[oncall.webhook]\nurl = "http://h:99999/x"\n',
        '[oncall.slack]\nchannel = "#{{.Foo}}"\napi_url_file = "x"\n',
        '[oncall]\nrunbooks = "javascript:alert(1)"\n',
        '[oncall]\nrunbooks = "https://x/{{ .X }"\n',
    ],
)
def test_what_can_never_deliver_is_refused(project: Path, text: str) -> None:
    """Ports that are none, and texts that Prometheus' templates would read."""
    with pytest.raises(ConfigurationError, match="oncall"):
        assert load(project, text).people


def test_a_secret_where_its_file_should_be_named_is_not_repeated(project: Path) -> None:
    """People paste."""
    settings = load(project, f'[oncall.slack]\napi_url_file = "{SECRET}"\nchannel = "#a"\n')
    with pytest.raises(ConfigurationError) as caught:
        start(settings)
    assert "verysecret" not in str(caught.value)
    assert "[oncall.slack] api_url_file" in str(caught.value)


def test_a_typing_error_about_who_is_told_keeps_nobody_from_anything_else(project: Path) -> None:
    """Rolling back reads the same file."""
    settings = load(project, "[oncall]\nwait_second = 3\n")
    assert "gateway" in {service.name for service in build_services(settings)[0]}
    assert not (settings.home / "signals").exists()
    with pytest.raises(ConfigurationError, match=r"oncall\.wait_second.*Known settings of \[oncall\]: .*wait_seconds"):
        start(settings)
