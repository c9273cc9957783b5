"""
Carrying out the ``script:`` lines of ``.gitlab-ci.yml``, job after job, each in a fresh workspace.

What is resolved how:
- ``variables:`` at the top (their ``value``), over them the pipeline's own, over them the job's and the ``CI_…`` ones used here.
- ``extends:`` of one job of this file; ``stages:`` give the order, ``needs:`` and the stages before what must have succeeded.
- ``rules:`` of the form ``$X``, ``$X == "text"`` and ``$X == $Y``, joined by ``&&``; a job whose rule says ``when: manual`` runs if
  its name is in ``play``.
- ``artifacts.paths`` are handed to the jobs that need this one (``when: always``: of a failed one too).
- ``before_script`` and ``script`` in one shell, as a runner does; ``after_script`` in another, with ``CI_JOB_STATUS``.
- ``tags``, ``image``, ``resource_group`` and ``interruptible`` are GitLab's to keep. A word that is not listed here is an error.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KNOWN = {
    *("extends", "stage", "needs", "script", "before_script", "after_script", "artifacts", "rules"),
    *("tags", "image", "resource_group", "interruptible"),
}
NO_JOBS = {"stages", "variables"}


@dataclass
class PipelineRun:
    """What became of a pipeline."""

    jobs: dict[str, str] = field(default_factory=dict)  # success, failed, canceled, manual or skipped; what no rule wants is not there
    console: str = ""

    @property
    def result(self) -> str:
        """The worst of the jobs."""
        return next((worse for worse in ("canceled", "failed", "manual") if worse in self.jobs.values()), "success")


def run_gitlab(
    folder: Path,
    repository: Path,
    variables: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    prepare: Path | None = None,
    play: frozenset[str] = frozenset(),
    cancel_at: str | None = None,
) -> PipelineRun:
    """
    Carry a pipeline out.

    Args:
        folder: Where everything is written; made where it is missing.
        repository: Holds the file and is what each job checks out.
        variables: The pipeline's, as a person gives them at "Run pipeline".
        environment: All that a runner has.
        prepare: A program run in each fresh workspace: what the machine has installed already.
        play: Names of the manual jobs that somebody starts.
        cancel_at: The job is cancelled when it says this.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = yaml.safe_load((repository / ".gitlab-ci.yml").read_text("utf-8"))
    defaults = {name: own["value"] if isinstance(own, dict) else own for name, own in file["variables"].items()}
    assert set(variables) <= set(defaults), f"the pipeline has no variable {set(variables) - set(defaults)}"
    always = {"CI": "true", "CI_PIPELINE_ID": "1", "CI_JOB_ID": "1", "CI_PIPELINE_SOURCE": "web", "CI_COMMIT_BRANCH": "main"}
    values = {**always, **defaults, **variables}
    run = PipelineRun()
    jobs = {name: {**file.get(own.get("extends"), {}), **own} for name, own in file.items() if name not in NO_JOBS and name[0] != "."}
    for name, job in sorted(jobs.items(), key=lambda pair: file["stages"].index(pair[1]["stage"])):
        assert set(job) <= KNOWN, f"{set(job) - KNOWN} of {name} is not carried out by this reader"
        when = _decide(job["rules"], values)
        if when is None:
            continue
        if any(run.jobs.get(own) != "success" for own in job.get("needs", [])):
            run.jobs[name] = "skipped"
        elif when == "manual" and name not in play:
            run.jobs[name] = "manual"
        else:
            run.jobs[name] = _run_job(run, folder, repository, name, job, {**environment, **values}, prepare, cancel_at)
    return run


def _decide(rules: list[dict[str, Any]], values: Mapping[str, str]) -> str | None:
    """Say when a job runs; None: not at all."""
    for rule in rules:
        if all(_holds(part.strip(), values) for part in rule["if"].split("&&")):
            return str(rule.get("when", "on_success"))
    return None


def _holds(condition: str, values: Mapping[str, str]) -> bool:
    found = re.fullmatch(r'\$(\w+)(?:\s*==\s*(?:"(.*)"|\$(\w+)))?', condition)
    assert found is not None, f"not understood: {condition}"
    value = values.get(found[1], "")
    if found[2] is None and found[3] is None:
        return value != ""
    return value == (found[2] if found[3] is None else values.get(found[3]))


def _run_job(
    run: PipelineRun,
    folder: Path,
    repository: Path,
    name: str,
    job: dict[str, Any],
    environment: Mapping[str, str],
    prepare: Path | None,
    cancel_at: str | None,
) -> str:
    workspace, kept = folder / name, folder / "artifacts"
    subprocess.run(["git", "clone", "--quiet", str(repository), str(workspace)], check=True, timeout=60)
    if prepare is not None:
        subprocess.run([str(prepare)], cwd=workspace, check=True, timeout=60)
    for needed in job.get("needs", []):
        shutil.copytree(kept / needed, workspace, dirs_exist_ok=True)
    run.console += f"[{name}]\n"
    status = _shell(run, workspace, [*job.get("before_script", []), *job["script"]], environment, cancel_at)
    if "after_script" in job:
        _shell(run, workspace, job["after_script"], {**environment, "CI_JOB_STATUS": status}, None)  # it decides nothing
    artifacts = job.get("artifacts", {})
    if status == "success" or artifacts.get("when") == "always":
        for path in artifacts.get("paths", []):
            source, target = workspace / path, kept / name / path
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    return status


def _shell(run: PipelineRun, workspace: Path, lines: list[str], environment: Mapping[str, str], cancel_at: str | None) -> str:
    script = "\n".join(["set -eo pipefail", *lines])
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        canceled = False
        for line in process.stdout:
            run.console += line
            if cancel_at is not None and cancel_at in line and not canceled:
                canceled = True
                os.killpg(process.pid, signal.SIGTERM)
    if process.returncode != 0 and not canceled:
        run.console += f"ERROR: Job failed: exit code {process.returncode}\n"
    return "canceled" if canceled else "success" if process.returncode == 0 else "failed"
