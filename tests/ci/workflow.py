"""
Carrying out the ``run:`` lines of a GitHub workflow, job after job, each in a fresh workspace.

What is resolved how:
- ``${{ }}`` by the evaluator beside this file, from ``inputs``, ``github`` (the event and the commit), ``needs``, ``steps``,
  ``matrix``; ``if:`` likewise, with ``success()`` where it names none of the status functions.
- ``env:`` of workflow, job and step, in this order; the machine's own environment as given, nothing inherited.
- ``uses:`` of checkout (a clone at ``ref``), of setup-python (nothing: there is one), of upload- and download-artifact (folders),
  and of this repository's own workflows (carried out likewise). Any other action is an error.
- ``strategy.matrix``: one after another. ``concurrency``, ``permissions``, ``runs-on`` and ``environment`` are GitHub's to keep.
- ``run:`` by ``bash -e``, as GitHub does where no shell is named.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from tests.ci.expressions import Expression, as_text, fill
else:
    _spec = importlib.util.spec_from_file_location("lastgood_tests_ci_expressions", Path(__file__).with_name("expressions.py"))
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_spec.name] = _module
    _spec.loader.exec_module(_module)
    Expression, as_text, fill = _module.Expression, _module.as_text, _module.fill

WORKFLOWS = ".github/workflows"


@dataclass
class WorkflowRun:
    """What became of a workflow."""

    folder: Path  # with artifacts/ and a workspace for each job
    repository: Path
    machine: Mapping[str, str]
    github: Mapping[str, Any]
    prepare: Path | None
    cancel_at: str | None
    skip: frozenset[str]
    jobs: dict[str, str] = field(default_factory=dict)  # success, failure, cancelled or skipped; a called workflow's as "caller / job"
    console: str = ""
    summary: str = ""

    @property
    def result(self) -> str:
        """The worst of the jobs."""
        return next((worse for worse in ("cancelled", "failure") if worse in self.jobs.values()), "success")


def run_workflow(
    folder: Path,
    repository: Path,
    name: str,
    environment: Mapping[str, str],
    *,
    inputs: Mapping[str, Any] | None = None,
    github: Mapping[str, Any] | None = None,
    prepare: Path | None = None,
    cancel_at: str | None = None,
    skip: frozenset[str] = frozenset(),
) -> WorkflowRun:
    """
    Carry a workflow out.

    Args:
        folder: Where everything is written; made where it is missing.
        repository: Holds the workflow and is what checkout clones.
        name: The workflow's file, such as ``model.yml``.
        environment: All that a runner has.
        inputs: By name; the workflow's defaults hold for the rest.
        github: The context: ``event_name``, ``event``, ``sha``; default: a workflow_dispatch of the repository's HEAD.
        prepare: A program run in each fresh workspace after checkout: what the machine has installed already.
        cancel_at: The run is cancelled when a step says this.
        skip: Jobs that succeed without being carried out (``make test`` inside of a test of it).
    """
    folder.mkdir(parents=True, exist_ok=True)
    head = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    context = {"event_name": "workflow_dispatch", "event": {}, "sha": head, "repository": "here/lastgood", "ref": "refs/heads/main"}
    run = WorkflowRun(folder, repository, environment, {**context, **(github or {})}, prepare, cancel_at, skip)
    _call(run, repository / WORKFLOWS / name, dict(inputs or {}), prefix="")
    return run


def _call(run: WorkflowRun, file: Path, inputs: dict[str, Any], *, prefix: str) -> str:
    """Carry one file out; give its result."""
    workflow = yaml.load(file.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - plain texts: "on" stays a word
    triggers = workflow["on"]
    kind = "workflow_call" if prefix else run.github["event_name"]
    declared = (triggers.get(kind) or {}).get("inputs", {}) if isinstance(triggers, dict) and isinstance(triggers.get(kind), dict) else {}
    values = {name: _typed(rule, inputs.get(name)) for name, rule in declared.items()}
    assert set(inputs) <= set(declared), f"{file.name} has no input {set(inputs) - set(declared)}"
    needs: dict[str, dict[str, Any]] = {}
    for name, job in workflow["jobs"].items():
        required = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        contexts = {"inputs": values, "github": {**run.github, "token": "a-token"}, "needs": {own: needs[own] for own in required}}
        result, outputs = _run_job(run, f"{prefix}{name}", job, workflow.get("env", {}), contexts)
        needs[name] = {"result": result, "outputs": outputs}
    results = [own["result"] for own in needs.values()]
    return next((worse for worse in ("cancelled", "failure") if worse in results), "success")


def _typed(rule: Mapping[str, str], given: Any) -> Any:
    if given is None:
        given = rule.get("default", "")
    return as_text(given) == "true" if rule.get("type") == "boolean" else as_text(given)


def _run_job(
    run: WorkflowRun, name: str, job: dict[str, Any], environment: Mapping[str, str], contexts: dict[str, Any]
) -> tuple[str, dict[str, str]]:
    before = [own["result"] for own in contexts["needs"].values()]
    if not _holds(job.get("if"), contexts, ok=all(own == "success" for own in before), cancelled="cancelled" in before):
        run.jobs[name] = "skipped"
        return "skipped", {}
    if name in run.skip:
        run.jobs[name] = "success"
        return "success", {}
    results: list[str] = []
    outputs: dict[str, str] = {}
    matrix = fill(job.get("strategy", {}).get("matrix", {}), contexts)
    for legs in [{key: leg} for key, own in matrix.items() for leg in own] or [{}]:
        full = {**contexts, "matrix": legs}
        label = name + "".join(f" {leg}" for leg in legs.values())
        if "uses" in job:
            called = job["uses"].removeprefix(f"./{WORKFLOWS}/")
            result = _call(run, run.repository / WORKFLOWS / called, fill(job.get("with", {}), full), prefix=f"{label} / ")
        else:
            result, outputs = _run_steps(run, label, job, environment, full)
        run.jobs[label] = result
        results.append(result)
    return next((worse for worse in ("cancelled", "failure") if worse in results), "success"), outputs


def _run_steps(
    run: WorkflowRun, name: str, job: dict[str, Any], environment: Mapping[str, str], contexts: dict[str, Any]
) -> tuple[str, dict[str, str]]:
    workspace = run.folder / name.replace(" / ", "-").replace(" ", "-")
    workspace.mkdir()
    steps: dict[str, dict[str, Any]] = {}
    state = "success"
    for step in job["steps"]:
        full = {**contexts, "steps": steps}
        if not _holds(step.get("if"), full, ok=state == "success", cancelled=state == "cancelled"):
            continue
        run.console += f"[{name}] {step.get('name', step.get('uses', ''))}\n"
        if "uses" in step:
            result = _use(run, workspace, step["uses"], fill(step.get("with", {}), full))
            outputs: dict[str, str] = {}
        else:
            own = {**environment, **job.get("env", {}), **step.get("env", {})}
            result, outputs = _shell(run, workspace, step["run"], {key: as_text(value) for key, value in fill(own, full).items()})
        if "id" in step:
            steps[step["id"]] = {"outputs": outputs, "outcome": result}
        if result != "success":
            state = result if state == "success" else state
    return state, {key: as_text(value) for key, value in fill(job.get("outputs", {}), {**contexts, "steps": steps}).items()}


def _holds(condition: str | None, contexts: Mapping[str, Any], *, ok: bool, cancelled: bool) -> bool:
    if condition is None:
        return ok
    text = condition.strip().removeprefix("${{").removesuffix("}}")
    functions = {"success": lambda: ok, "failure": lambda: not ok and not cancelled, "cancelled": lambda: cancelled, "always": lambda: True}
    found = Expression(text, contexts, functions)
    return bool(found.value) and (ok or bool(found.called & set(functions)))


def _use(run: WorkflowRun, workspace: Path, action: str, given: Mapping[str, Any]) -> str:
    """Do what an action does, as far as its job needs it."""
    artifacts = run.folder / "artifacts"
    match action.partition("@")[0]:
        case "actions/checkout":
            subprocess.run(["git", "clone", "--quiet", str(run.repository), str(workspace)], check=True, timeout=60)
            reference = given.get("ref") or run.github["sha"]
            subprocess.run(["git", "-C", str(workspace), "checkout", "--quiet", "--detach", str(reference)], check=True, timeout=60)
            if run.prepare is not None:
                subprocess.run([str(run.prepare)], cwd=workspace, check=True, timeout=60)
        case "actions/setup-python":
            pass
        case "actions/upload-artifact":
            source, target = workspace / given["path"], artifacts / given["name"]
            assert not target.exists(), f"artifact {given['name']} is there already, and GitHub's cannot be changed"
            if not source.exists():
                assert "error" == given["if-no-files-found"]
                run.console += f"No files were found with the provided path: {given['path']}\n"
                return "failure"
            target.mkdir(parents=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        case "actions/download-artifact":
            shutil.copytree(artifacts / given["name"], workspace / given["path"], dirs_exist_ok=True)
        case other:
            raise AssertionError(f"{other} is not carried out by this reader")
    return "success"


def _shell(run: WorkflowRun, workspace: Path, script: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Run a script; give the step's result and outputs."""
    assert "${{" not in script, f"interpolated into a script: {script}"
    output, summary = run.folder / "output", run.folder / "summary"
    output.write_text("", "utf-8")
    summary.write_text("", "utf-8")
    own = {
        "CI": "true",
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_RUN_ID": "1",
        "GITHUB_REPOSITORY": str(run.github["repository"]),
    }
    command = ["bash", "-e", "-c", script]
    with subprocess.Popen(
        command,
        cwd=workspace,
        env={**run.machine, **own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        cancelled = False
        later = [
            threading.Timer(seconds, _signal, (process.pid, number)) for seconds, number in ((7.5, signal.SIGTERM), (10, signal.SIGKILL))
        ]
        for line in process.stdout:
            run.console += line
            if run.cancel_at is not None and run.cancel_at in line and not cancelled:
                cancelled = True
                _signal(process.pid, signal.SIGINT)  # as the runner does, first to last
                for timer in later:
                    timer.start()
    for timer in later:
        timer.cancel()
    run.summary += summary.read_text("utf-8")
    pairs = [line.partition("=") for line in output.read_text("utf-8").splitlines()]
    result = "cancelled" if cancelled else "success" if process.returncode == 0 else "failure"
    run.console += "" if result == "success" else f"Process completed with exit code {process.returncode}.\n"
    return result, {name: value for name, _, value in pairs}


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
