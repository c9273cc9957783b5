"""The whole way: a trigger, a controller's queue, and the Jenkinsfile carried out by Groovy."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lastgood.flows.triggers.controller import Controller
from lastgood.flows.triggers.jenkins import release
from lastgood.flows.triggers.jenkins_job import PARAMETERS, JenkinsJob
from lastgood.ports import find_listener, free_ports
from lastgood.settings import JenkinsSettings, Settings

CONTROLLER = Path(__file__).parents[1] / "flows" / "jenkins_controller.py"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("groovy")]


def test_the_job_has_the_parameters_of_the_jenkinsfile(ci: Any, repository: Path, tmp_path: Path) -> None:
    """Jenkins drops values of parameters that the job does not define."""
    declared = ci.run_jenkinsfile(tmp_path / "describe", repository, {}, {}, describe=True).outcome["parameters"]
    found = {
        own["name"]: (
            own["kind"],
            own["choices"][0]
            if "choices" in own
            else str(own["defaultValue"]).lower()
            if own["kind"] == "booleanParam"
            else own["defaultValue"],
            tuple(own.get("choices", ())),
        )
        for own in declared
    }
    assert PARAMETERS == found


@pytest.mark.timeout(600)
def test_a_trigger_builds_what_was_committed_and_brings_the_stages_exit_code(
    ci: Any, shared_place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier commit than the branch's last one is built when it is named; a gate's no comes back as 3."""
    place = shared_place
    repository = tmp_path / "repository"
    ci.git(tmp_path, "clone", "--quiet", str(place.repository), str(repository))
    later = ci.commit(repository, "somebody was faster")
    assert later != place.commit
    folder = tmp_path / "jenkins"
    folder.mkdir()
    (port,) = free_ports(1)
    request = {
        "jenkinsfile": str(repository / "Jenkinsfile"),
        "repository": str(repository),
        "environment": place.environment,
        "prepare": str(place.prepare),
        "answers": {},
        "abortAt": None,
        "job": "lastgood-tumour",
        "describe": False,
    }
    command = ci.jenkinsfile_command(Path("request"))[:-1]
    plan = {"user": "ada", "token": "a-token", "execute": command, "request": request}
    (folder / "plan.json").write_text(json.dumps(plan), "utf-8")
    process = subprocess.Popen([sys.executable, str(CONTROLLER), str(port), str(folder)])
    try:
        while find_listener(port) is None:
            assert process.poll() is None
            time.sleep(0.05)
        monkeypatch.setenv("JENKINS_API_TOKEN", "a-token")
        own = JenkinsSettings(url=f"http://127.0.0.1:{port}", user="ada")
        controller = Controller(Settings(project=tmp_path, home=tmp_path / "home", jenkins=own))
        job = JenkinsJob("tumour", f"file://{repository}", "main")
        shown: list[str] = []
        common = {"MODEL": "tumour", "SEED": "3", "COMMIT": place.commit, "DEPLOY": "false"}
        good = release(controller, job, {**common, "SETTINGS": "recipe=fp32\nepochs=15"}, seconds=250, echo=shown.append)
        assert 0 == good.exit_code, "\n".join(shown)
        assert (place.commit, False) == place.commit_of("tumour@1")
        settings = "recipe=fp32\nepochs=1\nlearning_rate=0.000001"
        bad = release(controller, job, {**common, "SETTINGS": settings}, seconds=250, echo=shown.append)
        assert 3 == bad.exit_code, "\n".join(shown)
    finally:
        process.kill()
        process.wait()
