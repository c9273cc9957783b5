"""The Jenkinsfile, executed by a real Groovy: every stage on an agent of its own, with the real command line."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
QUICK = "recipe=static-int8\nepochs=15\n"
pytestmark = [pytest.mark.usefixtures("groovy")]


def declare(ci: Any, folder: Path, text: str) -> str:
    """Read a Jenkinsfile; give what is wrong with it, or nothing."""
    file = folder / "Jenkinsfile"
    file.write_text(text, "utf-8")
    return str(ci.run_jenkinsfile(folder / "build", folder, {}, {}, jenkinsfile=file, describe=True).outcome.get("refused", ""))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pipeline { agent none; stages { stage('a') { steps { echo 'x' } } } }", ""),
        ("pipeline { stages { stage('a') { steps { echo 'x' } } } }", "Missing required section 'agent'"),
        ("pipeline { agent none; stages { } }", "No stages specified"),
        ("pipeline { agent none; stages { stage('a') { step { echo 'x' } } } }", "Unknown word 'step'"),
        ("pipeline { agent none; stages { stage('a') { steps { shell 'x' } } } }", "Unknown word 'shell'"),
        ("pipeline { agent none; stages { stage('a') { steps { sh scripts: 'x' } } } }", "Missing required parameter 'script'"),
        ("pipeline { agent none; stages { stage('a') { steps { echo 'x' } } }\npost { failed { echo 'x' } } }", "Unknown word 'failed'"),
        ("pipeline { agent none; stages { stage('a') { matrix { } } } }", "not carried out by this runner"),
        ("pipeline { agent none; stages { stage('a') { steps { sh \"echo ${params.X}\" } } } }", "params"),
    ],
)
@pytest.mark.slow
def test_the_runner_refuses_what_jenkins_validator_would(ci: Any, tmp_path: Path, text: str, sentence: str) -> None:
    """A runner that takes everything would prove nothing."""
    found = declare(ci, tmp_path, text)
    assert sentence in found
    assert bool(sentence) == bool(found)


@pytest.mark.slow
def test_npm_groovy_lint_finds_nothing(ci: Any) -> None:
    """With every rule it recommends for a Jenkinsfile but those that tools/ci-checkers/.groovylintrc.js gives a reason for."""
    program = ci.checkers / "npm-groovy-lint" / "lib" / "index.js"
    command = ["node", str(program), "--noserver", "--failon", "info", "--output", "json", "-c", "tools/ci-checkers", "Jenkinsfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert {"Jenkinsfile"} == {Path(name).name for name in found["files"]}
    assert [] == [error for file in found["files"].values() for error in file["errors"]]
    assert 0 == done.returncode


def test_no_script_is_interpolated_by_groovy_or_uses_a_variable_without_quotes() -> None:
    """What a person types is a value of the shell's variables, never a part of its program."""
    scripts = re.findall(r"sh '''(.*?)'''", (ROOT / "Jenkinsfile").read_text("utf-8"), re.DOTALL)
    assert 6 == len(scripts)
    assert 'sh "' not in (ROOT / "Jenkinsfile").read_text("utf-8")
    for script in scripts:
        outside = re.sub(r'"[^"]*"', "", script)
        assert [] == re.findall(r"\$\w+|\$\{(?!SEED:\+\}|SETTINGS:\+\})[^}]*\}", outside)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_releases_then_an_aborted_one_takes_its_candidate_back(
    ci: Any, shared_place: Any, reference_digest: str, tmp_path: Path
) -> None:
    """Train to deploy on five agents that share stashes only; the commit in the record is the one that was checked out."""
    place = shared_place

    def build(name: str, **more: Any) -> Any:
        given = {"MODEL": "tumour", "SETTINGS": QUICK, "SEED": "3", "STRATEGY": "direct", **more.pop("parameters", {})}
        return ci.run_jenkinsfile(tmp_path / name, place.repository, given, place.environment, prepare=place.prepare, **more)

    owned = tmp_path / "owned"
    hostile = f"a'; touch {owned}; '\" $(touch {owned}) `touch {owned}`"
    with place.traffic("tumour", 30):
        first = build("first", parameters={"WHY": hostile, "WAIT": "stable"})
    assert "SUCCESS" == first.result, first.console
    assert not owned.exists()
    ran = {"train": "SUCCESS", "compress": "SUCCESS", "gate": "SUCCESS", "register": "SUCCESS", "approve": "NOT_BUILT", "deploy": "SUCCESS"}
    assert ran == first.stages
    assert 5 == first.outcome["agents"]
    assert {"passed"} == {test["status"] for test in first.outcome["tests"]} - {"skipped"}
    assert {"junit.xml", "report.html", "report.md"} <= {path.name for path in (first.folder / "archive").rglob("*")}
    assert (place.commit, False) == place.commit_of("tumour@1")
    assert reference_digest == place.version("tumour@1").digest
    assert "stable" == place.state("tumour")["rollout"]["state"]

    # A canary that nobody sends requests stays where it is; the build is aborted while it waits.
    aborted = build("aborted", parameters={"STRATEGY": "canary", "SETTINGS": "recipe=fp32\nepochs=16"}, abort_at="no requests yet")
    assert "ABORTED" == aborted.result, aborted.console
    state = place.state("tumour")
    assert (2, "withdrawn") == (state["rollout"]["candidate"]["number"], state["rollout"]["state"])
    assert 1 == state["live"]["number"]
    assert "tumour@2 withdrawn; tumour@1 serves" in aborted.console


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gate_that_says_no_fails_the_build_with_its_code_and_keeps_the_report(ci: Any, shared_place: Any, tmp_path: Path) -> None:
    """Later stages do not run, and nothing is registered."""
    given = {"MODEL": "tumour", "SETTINGS": "recipe=fp32\nepochs=1\nlearning_rate=0.000001", "SEED": "1", "APPROVAL": "true"}
    place = shared_place
    build = ci.run_jenkinsfile(tmp_path / "b", place.repository, given, place.environment, prepare=place.prepare)
    assert "FAILURE" == build.result
    assert build.console.rstrip().endswith("ERROR: script returned exit code 3\nFinished: FAILURE")
    assert {"register": "SKIPPED", "approve": "SKIPPED", "deploy": "SKIPPED"}.items() <= build.stages.items()
    assert "failed" in {test["status"] for test in build.outcome["tests"]}
    assert (build.folder / "archive" / "build" / "ci" / "gate" / "report.html").is_file()
