"""
A step in a fresh process: memory goes back to the system, the same seed gives the same bytes, and a crash stays inside.

The child is ``python -m lastgood.pipelines.child STEP RUNDIR FD``; it writes one JSON object per line to the pipe FD
and everything else to ``logs/STEP.log`` in the run folder. It ends when its standard input does, so that it never
outlives whoever started it.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from lastgood.compression.tensorflow_settings import quiet_environment
from lastgood.errors import LastgoodError
from lastgood.pipelines.errors import StepCrashedError
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress
from lastgood.pipelines.run import Run, note_changes, open_run
from lastgood.pipelines.train import FINGERPRINT
from lastgood.settings import load_settings

Step = Literal["fingerprint", "update", "train", "compress", "gate"]
LIVE = "gate/live.json"
_LAST_LINES = 12


def run_step(run: Run, step: Step, on_progress: OnProgress = ignore_progress) -> None:
    """
    Run one step in a child process; its result is in the run folder afterwards.

    Before the gate, the live version's files are fetched here: the child opens no registry.

    Raises:
        LastgoodError: The error the step raised, of the same class with the same message.
        StepCrashedError: The child died otherwise; the message has the last lines it wrote.
    """
    if step not in {"fingerprint", "update"}:
        note_changes(run)
    if step == "gate":
        _write_live(run)
    log = run.folder / "logs" / f"{step}.log"
    log.parent.mkdir(exist_ok=True)
    settings = run.settings
    places = {
        "LASTGOOD_HOME": str(settings.home),
        "LASTGOOD_DATABASE": settings.database_url,
        "LASTGOOD_FILES": settings.files_place,
    }
    reading, writing = os.pipe()
    with log.open("wb") as output, os.fdopen(reading, "r", encoding="utf-8") as pipe:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "lastgood.pipelines.child", step, str(run.folder), str(writing)],
                cwd=settings.project,
                env={**os.environ, **quiet_environment(), **places},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,  # a group of its own, so that what it starts ends with it
            )
        finally:
            os.close(writing)
        try:
            error = _follow(pipe, on_progress)
            code = child.wait()
        finally:
            _end(child)
    if error is not None:
        raise error
    if code != 0:
        last = "\n".join(log.read_text("utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]) or "it wrote nothing"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        raise StepCrashedError(f"The step {step} of run {run.id} {how}. Its last lines, all of them in {log}:\n{last}")


def read_fingerprint(run: Run) -> str:
    """
    Give the fingerprint of the run's data, which the step "fingerprint" wrote.

    Raises:
        StepOrderError: The step has not run.
    """
    return run.read(FINGERPRINT, dict[str, str], step="train")["data"]


def _follow(pipe: Any, on_progress: OnProgress) -> LastgoodError | None:
    """Pass reports on until the child closes the pipe; give the error it reported, if any."""
    error = None
    for line in pipe:
        message = json.loads(line)
        if "error" in message:
            error = _rebuild(message["error"])
        else:
            on_progress(Progress(**message))
    return error


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _rebuild(error: dict[str, str]) -> LastgoodError:
    """Make the child's error again; of the base class when its own cannot be made from a message."""
    found = getattr(importlib.import_module(error["module"]), error["name"], None)
    if isinstance(found, type) and issubclass(found, LastgoodError):
        return found(error["message"])
    return LastgoodError(error["message"])


def _write_live(run: Run) -> None:
    from lastgood.pipelines.gate import fetch_live
    from lastgood.registry.registry import Registry

    with Registry.open(run.settings, writer="cli") as registry:
        run.write(LIVE, fetch_live(run, registry))


def _steps() -> dict[str, Callable[[Run, OnProgress], Any]]:
    from lastgood.pipelines.compress import compress
    from lastgood.pipelines.gate import LiveModel, gate
    from lastgood.pipelines.train import take_fingerprint, take_rows_and_fingerprint, train

    def gate_with_live(run: Run, on_progress: OnProgress) -> Any:
        live: LiveModel | None = run.read(LIVE, LiveModel | None, step="gate")  # type: ignore[arg-type]
        return gate(run, on_progress, live=live)

    return {
        "fingerprint": take_fingerprint,
        "update": take_rows_and_fingerprint,
        "train": train,
        "compress": compress,
        "gate": gate_with_live,
    }


def main(step: str, folder: Path, descriptor: int) -> int:
    """Run a step here and report to the pipe; give the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        os.set_inheritable(descriptor, False)

        def send(message: dict[str, Any]) -> None:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

        try:
            run = open_run(load_settings(), folder)
            _steps()[step](run, lambda report: send({"step": report.step, "message": report.message, "fraction": report.fraction}))
        except LastgoodError as exc:
            send({"error": {"module": type(exc).__module__, "name": type(exc).__qualname__, "message": str(exc)}})
            return exc.exit_code
    return 0


def _end_with_parent() -> None:
    for _ in _read_forever():
        continue
    # Whoever started this process is gone; so is the reason for it and for what it started.
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _read_forever() -> Iterator[bytes]:
    while data := os.read(0, 1024):
        yield data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
