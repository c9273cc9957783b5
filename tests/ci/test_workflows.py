"""GitHub's workflows: checked by three linters, and their own lines carried out with the real command line."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
QUICK = "recipe=static-int8\nepochs=15\n"


class Comments:
    """GitHub's issue comments, as its REST API documents them: list by pages, create, update. A fake, at the port of GitHub."""

    def __init__(self) -> None:
        self.refuse = False
        self.held: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.refuse:
                    self.answer(403, {"message": "Resource not accessible by integration"})
                    return
                page = int(self.path.rpartition("page=")[2])
                self.answer(200, outer.held[(page - 1) * 100 : page * 100])

            def do_POST(self) -> None:
                outer.add(self.body()["body"], "Bot")
                self.answer(201, outer.held[-1])

            def do_PATCH(self) -> None:
                (comment,) = [own for own in outer.held if own["id"] == int(self.path.rpartition("/")[2])]
                comment.update(self.body())
                self.answer(200, comment)

            def body(self) -> dict[str, Any]:
                value: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
                return value

            def answer(self, status: int, value: Any) -> None:
                outer.tokens.add(self.headers["authorization"])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, body: str, kind: str) -> None:
        """Add a comment."""
        self.held.append({"id": len(self.held) + 1, "user": {"type": kind}, "body": body})


@pytest.fixture
def comments() -> Iterator[Comments]:
    """A pull request's comments behind a server on loopback."""
    found = Comments()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dispatch_releases_and_a_cancelled_one_takes_its_candidate_back(
    ci: Any, shared_place: Any, reference_digest: str, tmp_path: Path
) -> None:
    """Every job in a workspace of its own, the archive handed on as an artifact, the commit in the record the tested one."""
    place = shared_place
    skip = frozenset({"test / test"})  # which runs this test

    def release(name: str, **more: Any) -> Any:
        inputs = {"model": "tumour", "settings": QUICK, "seed": "3", "strategy": "direct", "wait": "stable", **more.pop("inputs", {})}
        return ci.run_workflow(
            tmp_path / name, place.repository, "release.yml", place.environment, inputs=inputs, prepare=place.prepare, skip=skip, **more
        )

    owned = tmp_path / "owned"
    with place.traffic("tumour", 30):
        first = release("first", inputs={"why": f"a'; touch {owned}; $(touch {owned})"})
    assert "success" == first.result, first.console
    assert not owned.exists()
    jobs = {
        "plan",
        "test / test",
        "test",
        "model tumour",
        *(f"model tumour / {job}" for job in ("train", "compress", "gate", "register", "deploy")),
    }
    assert jobs == {name for name, result in first.jobs.items() if result == "success"}
    assert {"model tumour / comment"} == {name for name, result in first.jobs.items() if result == "skipped"}
    assert (place.commit, False) == place.commit_of("tumour@1")
    assert reference_digest == place.version("tumour@1").digest
    assert "stable" == place.state("tumour")["rollout"]["state"]
    assert "loss against float32" in first.summary

    settings = {"settings": "recipe=fp32\nepochs=16", "strategy": "canary"}
    cancelled = release("cancelled", inputs=settings, cancel_at="no requests yet")
    assert "cancelled" == cancelled.jobs["model tumour / deploy"], cancelled.console
    state = place.state("tumour")
    assert (2, "withdrawn", 1) == (state["rollout"]["candidate"]["number"], state["rollout"]["state"], state["live"]["number"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pull_request_is_gated_and_told(ci: Any, shared_place: Any, tmp_path: Path, comments: Comments) -> None:
    """Nothing is registered, whatever the gate says, and what else changed is no model."""
    place = shared_place
    repository = tmp_path / "repository"
    ci.git(tmp_path, "clone", "--quiet", str(place.repository), str(repository))
    for name, before, after in (("tumour.py", '"epochs": 40', '"epochs": 2'), ("conditions.py", "import ", "import ")):
        file = repository / "pipelines" / name
        file.write_text(file.read_text("utf-8").replace(before, after) + "# changed\n", "utf-8")
    ci.commit(repository, "fewer epochs")
    event = {"pull_request": {"number": 7, "title": "fewer epochs", "base": {"sha": place.commit}, "head": {"repo": {"full_name": "a/b"}}}}
    github = {"event_name": "pull_request", "repository": "a/b", "event": event}
    environment = {**place.environment, "GITHUB_API_URL": comments.url}
    run = ci.run_workflow(tmp_path / "run", repository, "release.yml", environment, github=github, prepare=place.prepare)
    assert "skipped" == run.jobs["test"]
    assert "success" == run.jobs["model tumour / comment"], run.console
    assert {"skipped"} == {run.jobs[f"model tumour / {job}"] for job in ("register", "deploy")}
    report = (tmp_path / "run" / "artifacts" / "gate-tumour" / "report.md").read_text("utf-8")
    assert [f"<!-- lastgood gate tumour -->\n{report}"] == [own["body"] for own in comments.held]
    assert {"Bearer a-token"} == comments.tokens


def test_the_comment_is_updated_and_nobody_elses_is_touched(comments: Comments, tmp_path: Path) -> None:
    """Behind more comments than one page holds; a report that is too long for GitHub is cut."""
    comments.add("<!-- lastgood gate m -->\nsomebody's joke", "User")
    for count in range(150):
        comments.add(f"talk {count}", "User")
    report = tmp_path / "report.md"
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_API_URL": comments.url, "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "t"}

    def tell() -> int:
        command = [sys.executable, str(ROOT / "tools" / "pull-request-comment"), "7", "m", str(report)]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode

    for text in ("first", "second " * 20_000):
        report.write_text(text, "utf-8")
        assert 0 == tell()
    (ours,) = [own["body"] for own in comments.held if own["user"]["type"] == "Bot"]
    assert ours.startswith("<!-- lastgood gate m -->\nsecond second")
    assert len(ours) < 65_536
    assert "somebody's joke" in comments.held[0]["body"]
    comments.refuse = True
    assert 7 == tell()


def test_what_a_fork_proposes_runs_nowhere_near_the_registry(ci: Any, repository: Path, tmp_path: Path) -> None:
    """Only the plan is made."""
    event = {"pull_request": {"number": 7, "title": "t", "base": {"sha": "HEAD"}, "head": {"repo": {"full_name": "fork/b"}}}}
    github = {"event_name": "pull_request", "repository": "a/b", "event": event}
    run = ci.run_workflow(tmp_path / "run", repository, "release.yml", {"PATH": "/usr/bin:/bin"}, github=github)
    assert {"plan": "success", "test": "skipped", "model": "skipped"} == run.jobs


@pytest.mark.parametrize("model", ["Digits", 'a","b', "-x", "a b;c"])
def test_a_model_that_is_no_name_stops_the_plan(ci: Any, repository: Path, tmp_path: Path, model: str) -> None:
    """It would become a part of the matrix."""
    run = ci.run_workflow(
        tmp_path / "run", repository, "release.yml", {"PATH": "/usr/bin:/bin"}, inputs={"model": model}, skip=frozenset({"test / test"})
    )
    assert "failure" == run.jobs["plan"]
    assert "skipped" == run.jobs["model"]
