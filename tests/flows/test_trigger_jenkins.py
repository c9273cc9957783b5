"""`lastgood trigger jenkins` against a controller on loopback that is a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import UnavailableError
from lastgood.flows.triggers.controller import Controller
from lastgood.flows.triggers.jenkins import judge, release
from lastgood.flows.triggers.jenkins_job import JenkinsJob
from lastgood.flows.triggers.verdict import AccessRefusedError, NotStartedError, ServerAwayError, TriggerSettingsError
from lastgood.ports import free_ports
from lastgood.settings import JenkinsSettings, Settings

PROGRAM = Path(__file__).with_name("jenkins_controller.py")
TOKEN = "11d3b8a7-token-of-this-test"
JOB = JenkinsJob("digits", "https://git.localhost/models.git", "main")


class Jenkins:
    """The controller's process, to be started, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **plan: Any) -> None:
        """Start with a plan; without one, with the one it had."""
        if plan or not (self.folder / "plan.json").exists():
            values = {"user": "ada", "token": TOKEN, "result": "SUCCESS", "lines": ["hello"], **plan}
            (self.folder / "plan.json").write_text(json.dumps(values), "utf-8")
        self.process = subprocess.Popen([sys.executable, str(PROGRAM), str(self.port), str(self.folder)])
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def state(self) -> dict[str, Any]:
        """What it keeps on its disk."""
        value: dict[str, Any] = json.loads((self.folder / "state.json").read_text("utf-8"))
        return value


@pytest.fixture
def jenkins(tmp_path: Path) -> Iterator[Jenkins]:
    """A controller that is not started yet."""
    folder = tmp_path / "jenkins"
    folder.mkdir()
    found = Jenkins(folder)
    try:
        yield found
    finally:
        found.kill()


def controller(jenkins: Jenkins, tmp_path: Path, *, away_seconds: float = 20, token: str = TOKEN) -> Controller:
    """Give the client's side."""
    (tmp_path / "token").write_text(token + "\n", "utf-8")
    own = JenkinsSettings(url=jenkins.url, user="ada", token_file=Path("token"))
    return Controller(Settings(project=tmp_path, home=tmp_path / "home", jenkins=own), away_seconds=away_seconds)


def lastgood(tmp_path: Path, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a project of its own."""
    (tmp_path / "lastgood.toml").write_text(
        f'[jenkins]\nurl = "{url}"\nuser = "ada"\nrepository = "https://git.localhost/models.git"\n', "utf-8"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD_")}
    command = [sys.executable, "-m", "lastgood", "trigger", "jenkins", *arguments]
    environment = {**clean, "JENKINS_API_TOKEN": TOKEN}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_job_is_made_once_and_each_build_gets_its_parameters(jenkins: Jenkins, tmp_path: Path) -> None:
    """The console is shown, the verdict is the exit code, and the token is nowhere."""
    jenkins.start(lines=["train: fitting", "gate: passed"])
    hostile = 'it\'s "new" & <b> ${x}'
    first = lastgood(tmp_path, "digits", "--set", "epochs=6", "--set", "recipe=fp32", "-m", hostile, "--json", url=jenkins.url)
    assert 0 == first.returncode, first.stderr
    assert {"result": "SUCCESS", "exit_code": 0, "url": f"{jenkins.url}/job/lastgood-digits/1"}.items() <= json.loads(first.stdout).items()
    assert "train: fitting\ngate: passed\n" in first.stderr
    second = lastgood(tmp_path, "digits", "--seed", "7", "--strategy", "direct", "--no-deploy", url=jenkins.url)
    assert f"SUCCESS {jenkins.url}/job/lastgood-digits/2\n" == second.stdout
    assert ["createItem", *["job/lastgood-digits/buildWithParameters"] * 2] == jenkins.state["posts"]
    given = [build["parameters"] for build in jenkins.state["builds"].values()]
    assert {"MODEL": "digits", "SETTINGS": "epochs=6\nrecipe=fp32", "WHY": hostile, "SEED": "", "DEPLOY": "true"}.items() <= given[
        0
    ].items()
    assert {"SEED": "7", "STRATEGY": "direct", "DEPLOY": "false", "COMMIT": "HEAD"}.items() <= given[1].items()
    assert TOKEN not in first.stdout + first.stderr + second.stdout + second.stderr + (jenkins.folder / "state.json").read_text("utf-8")


def test_a_job_of_another_repository_is_brought_up_to_date(jenkins: Jenkins, tmp_path: Path) -> None:
    """And one that only a person changed is left as it is."""
    jenkins.start()
    client = controller(jenkins, tmp_path)
    other = JenkinsJob("digits", "ssh://git@git.localhost/others.git", "main")
    for job in (JOB, JOB, other, other):
        client.put_job(job)
    assert ["createItem", "job/lastgood-digits/config.xml"] == jenkins.state["posts"]
    assert other.repository in jenkins.state["jobs"]["lastgood-digits"]


@pytest.mark.parametrize(
    ("result", "console", "code"),
    [
        ("SUCCESS", "", 0),
        ("FAILURE", "ERROR: script returned exit code 3\nFinished: FAILURE\n", 3),
        ("FAILURE", "ERROR: script returned exit code 8\nFinished: FAILURE\n", 8),
        ("FAILURE", "ERROR: script returned exit code 8\nlater\nERROR: script returned exit code 6\n", 6),
        ("FAILURE", "ERROR: script returned exit code 137\n", 7),
        ("FAILURE", "he said ERROR: script returned exit code 3\n", 7),
        ("FAILURE", "Cannot contact agent\n", 7),
        ("UNSTABLE", "", 3),
        ("NOT_BUILT", "", 7),
        ("ABORTED", "ERROR: script returned exit code 143\n", 130),
    ],
)
def test_every_result_has_a_documented_exit_code(result: str, console: str, code: int) -> None:
    """Lastgood's own where a stage said one."""
    assert code == judge(result, console, "http://j/job/m/1").exit_code


def test_a_gates_refusal_comes_through_as_exit_code_three(jenkins: Jenkins, tmp_path: Path) -> None:
    """With a sentence that leads to the build."""
    jenkins.start(lines=["lastgood: The gate refused", "ERROR: script returned exit code 3"], result="FAILURE")
    done = lastgood(tmp_path, "digits", url=jenkins.url)
    assert 3 == done.returncode
    assert f"The build failed with lastgood's exit code 3. See {jenkins.url}/job/lastgood-digits/1." in done.stderr


def test_a_queue_that_never_starts_is_left_and_says_why(jenkins: Jenkins, tmp_path: Path) -> None:
    """Nothing starts hours later that nobody waits for."""
    jenkins.start(queue_seconds=None, why="There are no nodes with the label 'lastgood'")
    with pytest.raises(NotStartedError, match="no nodes with the label"):
        release(controller(jenkins, tmp_path), JOB, {"MODEL": "digits"}, seconds=1.5, echo=print)
    assert jenkins.state["queue"]["1"]["cancelled"]


def test_a_build_that_takes_too_long_is_left_alone(jenkins: Jenkins, tmp_path: Path) -> None:
    """It goes on; exit code 7 says where."""
    jenkins.start(lines=["a", "b"], line_seconds=30)
    done = lastgood(tmp_path, "digits", "--wait-seconds", "2", url=jenkins.url)
    assert 7 == done.returncode
    assert "still runs after 2 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_in_the_queue_that_jenkins_forgot_is_found_by_its_build(jenkins: Jenkins, tmp_path: Path) -> None:
    """Items that left are unknown after five minutes."""
    jenkins.start(forget_queue=True)
    assert 0 == release(controller(jenkins, tmp_path), JOB, {"MODEL": "digits"}, seconds=20, echo=print).exit_code


def test_wrong_credentials_and_missing_rights_are_sentences(jenkins: Jenkins, tmp_path: Path) -> None:
    """401 and 403, without the token."""
    jenkins.start(forbidden=True)
    with pytest.raises(AccessRefusedError, match="401 to user 'ada'") as refused:
        controller(jenkins, tmp_path, token="wrong-token").put_job(JOB)
    assert "wrong-token" not in str(refused.value)
    with pytest.raises(AccessRefusedError, match="403 to user 'ada'"):
        controller(jenkins, tmp_path).put_job(JOB)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("digits", "--url", "http://127.0.0.1:1"), 7, "does not answer"),
        (("digits", "--url", "ftp://x"), 2, "no address of a Jenkins"),
        (("digits", "--url", "http://ada:secret@127.0.0.1:1"), 2, "holds a user or password"),
        (("Digits",), 2, "cannot name a model"),
        (("digits", "--set", "epochs"), 2, "NAME=VALUE"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """No traceback, and no password repeated."""
    done = lastgood(tmp_path, *arguments)
    assert code == done.returncode, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("starting_seconds", [0, 1.5])
def test_a_controller_that_comes_back_is_followed_on(jenkins: Jenkins, tmp_path: Path, starting_seconds: float) -> None:
    """Killed in the middle of the build; no line of the console is lost or shown twice."""
    lines = [f"line {number}" for number in range(60)]
    jenkins.start(lines=lines, line_seconds=0.05, starting_seconds=starting_seconds)
    client, shown = controller(jenkins, tmp_path), []

    def echo(line: str) -> None:
        shown.append(line)
        if line == "line 10":
            jenkins.kill()
            jenkins.start()

    time.sleep(starting_seconds)
    verdict = release(client, JOB, {"MODEL": "digits"}, seconds=40, echo=echo)
    assert 0 == verdict.exit_code
    assert [*lines, "Finished: SUCCESS"] == shown


def test_a_controller_that_does_not_come_back_is_exit_code_seven(jenkins: Jenkins, tmp_path: Path) -> None:
    """After as long as it may be away."""
    jenkins.start(lines=["a", "b"], line_seconds=1)

    def echo(line: str) -> None:
        jenkins.kill()

    with pytest.raises(ServerAwayError, match="does not answer") as away:
        release(controller(jenkins, tmp_path, away_seconds=1), JOB, {"MODEL": "digits"}, seconds=40, echo=echo)
    assert UnavailableError.exit_code == away.value.exit_code


@pytest.mark.parametrize(
    "repository",
    ["", "../models", "--upload-pack=x", "ext::sh -c x", "https://ada:secret@git.localhost/m.git", "https://git.localhost/a b"],
)
def test_a_repository_that_is_none_is_refused(repository: str) -> None:
    """Before Jenkins is told; a password is not repeated."""
    with pytest.raises(TriggerSettingsError) as refused:
        JenkinsJob("digits", repository, "main").to_xml()
    assert "secret" not in str(refused.value)
