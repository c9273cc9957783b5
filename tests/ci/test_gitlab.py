"""GitLab's pipeline: its own lines carried out with the real command line."""

from pathlib import Path
from typing import Any

import pytest

from lastgood.serving.client import Control

VARIABLES = {"MODEL": "tumour", "SETTINGS": "recipe=static-int8\nepochs=15\n", "SEED": "3", "STRATEGY": "direct", "WAIT": "stable"}
STAGES = ("train", "compress", "gate", "register", "deploy")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pipeline_releases_when_somebody_says_so_and_a_cancelled_one_takes_its_candidate_back(
    ci: Any, shared_place: Any, reference_digest: str, tmp_path: Path
) -> None:
    """The deployment waits for a person where that was asked for; the commit in the record is the pipeline's."""
    place = shared_place

    def release(name: str, variables: dict[str, str], **more: Any) -> Any:
        return ci.run_gitlab(
            tmp_path / name, place.repository, {**VARIABLES, **variables}, place.environment, prepare=place.prepare, **more
        )

    owned = tmp_path / "owned"
    with place.traffic("tumour", 30):
        first = release("first", {"APPROVAL": "yes", "WHY": f"a'; touch {owned}; $(touch {owned})"}, play=frozenset({"deploy"}))
    assert dict.fromkeys(["test", *STAGES][1:], "success") == {name: first.jobs[name] for name in STAGES}, first.console
    assert not owned.exists()
    assert (place.commit, False) == place.commit_of("tumour@1")
    assert reference_digest == place.version("tumour@1").digest
    assert "stable" == place.state("tumour")["rollout"]["state"]

    cancelled = release("cancelled", {"STRATEGY": "canary", "SETTINGS": "recipe=fp32\nepochs=16"}, cancel_at="no requests yet")
    assert "canceled" == cancelled.jobs["deploy"], cancelled.console
    state = place.state("tumour")
    assert (2, "withdrawn", 1) == (state["rollout"]["candidate"]["number"], state["rollout"]["state"], state["live"]["number"])

    # Kept, so it may be deployed again; and taking back means this candidate while its rollout runs, and nothing else ever.
    def take_back(*only: str, code: int = 0) -> str:
        done = place.lastgood("rollback", "tumour", "--only", *only, "--keep", "-m", "a test")
        assert code == done.returncode, done.stderr
        return str(done.stderr)

    def serving() -> tuple[int, str]:
        found = place.state("tumour")
        return found["live"]["number"], found["rollout"]["state"]

    assert 0 == place.lastgood("deploy", "tumour@2", "--wait", "no").returncode
    for other in ("tumour@1", str(tmp_path / "nothing.tar")):
        assert "Nothing is taken out" in take_back(other)
    with Control(place.settings) as control:
        control.rollback("tumour", to=None, keep=True, actor="test", why="another digest", only=place.version("tumour@1").digest)
    assert serving()[0] == 1
    assert serving()[1] in {"staged", "canary"}
    assert "give one of them" in take_back("tumour@2", "--to", "tumour@1", code=2)
    assert "tumour@2 withdrawn; tumour@1 serves" in take_back("tumour@2")
    assert "Nothing is taken out" in take_back("tumour@2")
    assert (1, "withdrawn") == serving()


@pytest.mark.slow
def test_a_gate_that_says_no_ends_the_pipeline_and_keeps_its_report(ci: Any, shared_place: Any, tmp_path: Path) -> None:
    """JUnit for GitLab's page, the archive for whoever looks into it."""
    place = shared_place
    variables = {**VARIABLES, "SETTINGS": "recipe=fp32\nepochs=1\nlearning_rate=0.000001"}
    run = ci.run_gitlab(tmp_path / "run", place.repository, variables, place.environment, prepare=place.prepare)
    assert {"gate": "failed", "register": "skipped", "deploy": "skipped"}.items() <= run.jobs.items()
    assert "Job failed: exit code 3" in run.console
    assert "<failure" in (tmp_path / "run" / "artifacts" / "gate" / "build" / "ci" / "gate" / "junit.xml").read_text("utf-8")


def test_without_a_model_nothing_is_released_and_approval_is_asked_for(ci: Any, repository: Path, tmp_path: Path) -> None:
    """A push tests; `deploy` waits where somebody wants to be asked."""
    file = (repository / ".gitlab-ci.yml").read_text("utf-8")
    assert "resource_group: lastgood-$MODEL" in file
    place = tmp_path / "empty"
    place.mkdir()
    (place / ".gitlab-ci.yml").write_text(
        file.replace("make setup", "echo set up").replace(".venv/bin/lastgood", "mkdir -p build/ci/gate; touch build/ci/run.tar; true")
    )
    ci.git(place, "init", "--quiet")
    ci.commit(place, "a pipeline whose commands do nothing")
    environment = {"PATH": "/usr/bin:/bin"}
    assert {} == ci.run_gitlab(tmp_path / "push", place, {}, environment).jobs
    waiting = ci.run_gitlab(tmp_path / "ask", place, {"MODEL": "m", "APPROVAL": "yes"}, environment)
    assert "manual" == waiting.jobs["deploy"]
    assert "manual" == waiting.result
    assert "deploy" not in ci.run_gitlab(tmp_path / "no", place, {"MODEL": "m", "DEPLOY": "no"}, environment).jobs
