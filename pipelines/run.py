"""A run: one folder in which the steps of one release leave what they made, portable as one archive."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lastgood import __version__
from lastgood.errors import IntegrityError
from lastgood.pipelines.deploy import find_policy, find_predictions
from lastgood.pipelines.errors import RunNotFoundError, StepOrderError
from lastgood.pipelines.find import Found, find_pipeline
from lastgood.pipelines.gate_settings import GateSettings, read_gate
from lastgood.pipelines.parameters import join_parameters
from lastgood.pipelines.provenance import read_author, read_commit, read_libraries
from lastgood.settings import Settings

T = TypeVar("T")
RUN_FILE = "run.json"
_RUN_ID = re.compile(r"[a-z][a-z0-9_-]{0,62}-\d{8}-\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is fixed when a run is created; run.json."""

    run: str
    model: str
    seed: int
    author: str
    why: str
    commit: str | None
    dirty: bool | None
    parent: str | None  # digest of the version that was live
    created: str  # UTC, ISO 8601
    lastgood: str
    parameters: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run's folder and facts, and the file it is handed on as, if it is: lastgood's own, and so no change of the project."""

    settings: Settings
    folder: Path
    facts: RunFacts
    archive: Path | None = None

    @property
    def id(self) -> str:
        """The run's name, as ``--run`` takes it."""
        return self.facts.run

    @property
    def model(self) -> str:
        """Which model it is a run of."""
        return self.facts.model

    @cached_property
    def found(self) -> Found:
        """The model's pipeline and its file."""
        return find_pipeline(self.settings, self.model)

    @cached_property
    def gate_settings(self) -> GateSettings:
        """The pipeline's gate with the project's overrides."""
        own = self.settings.models.get(self.model)
        return read_gate(self.found.pipeline.gate, own.gate if own else {}, model=self.model)

    def write(self, name: str, value: Any) -> None:
        """Write a step's result as JSON; a crash leaves the old file or the new one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
        temporary.replace(path)

    def read(self, name: str, kind: type[T], *, step: str) -> T:
        """
        Read what an earlier step wrote.

        Raises:
            StepOrderError: The step has not run.
            IntegrityError: The file is not what the step writes.
        """
        path = self.folder / name
        if not path.is_file():
            raise StepOrderError(f"Run {self.id} has no {name}: run `lastgood {step} {self.model} --run {self.id}` first.")
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{path} is not what the step {step} writes: {exc}. Run the step again.") from exc


def create_run(
    settings: Settings,
    model: str,
    *,
    overrides: Mapping[str, str] | None = None,
    seed: int | None = None,
    why: str | None = None,
    author: str | None = None,
    archive: Path | None = None,
) -> Run:
    """
    Make a new run folder for a model.

    Args:
        settings: The project.
        model: Its name.
        overrides: Parameters as typed, by name.
        seed: Of everything random; default: the model's next version number.
        why: A sentence for the record.
        author: Default: git's user, else the account.
        archive: The file it will be handed on as.

    Raises:
        PipelineNotFoundError: The model has no pipeline.
        ParameterError: An override is not known or of another type.
        ConfigurationError: The gate's settings are not valid.
    """
    from lastgood.registry.registry import Registry

    found = find_pipeline(settings, model)
    find_policy(settings, model)  # what is not valid must not be found out after the training
    find_predictions(settings, model)
    parameters = join_parameters(found.pipeline.parameters, overrides or {})
    with Registry.open(settings, writer="cli") as registry:
        number = registry.next_number(model)
        live = registry.aliases(model).get("live")
    now = datetime.now(UTC)
    commit, dirty = read_commit(settings.project, pipeline=found.file, ours=_ours(settings.home, archive))
    facts = RunFacts(
        run=f"{model}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        model=model,
        seed=number if seed is None else seed,
        author=author or read_author(settings.project),
        why=why or "",
        commit=commit,
        dirty=dirty,
        parent=live.digest if live else None,
        created=now.isoformat(timespec="seconds"),
        lastgood=__version__,
        parameters=parameters,
        overrides=dict(overrides or {}),
        libraries=read_libraries(),
    )
    run = Run(settings, runs_folder(settings) / facts.run, facts, archive)
    run.gate_settings  # noqa: B018 - a gate that is not valid must not be found out after the training
    run.folder.mkdir(parents=True)
    run.write(RUN_FILE, facts)
    return run


def note_changes(run: Run) -> Run:
    """
    Look again at what a step is about to use: files that changed since the run began make it a run of no commit.

    Returns:
        The run, its facts written anew where they are not true any more.
    """
    facts = run.facts
    if facts.commit is None or facts.dirty is not False:
        return run
    commit, dirty = read_commit(run.settings.project, pipeline=run.found.file, ours=_ours(run.settings.home, run.folder, run.archive))
    if commit is None or (commit == facts.commit and dirty is False):
        return run  # outside of git there is nothing to compare with: an archive came from where there was
    changed = replace(run, facts=replace(facts, dirty=True))
    changed.write(RUN_FILE, changed.facts)
    return changed


def _ours(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]


def open_run(settings: Settings, run: str | Path) -> Run:
    """
    Open a run by its name or folder.

    Raises:
        RunNotFoundError: There is none.
        IntegrityError: Its run.json is damaged.
    """
    text = str(run)
    folder = runs_folder(settings) / text if _RUN_ID.fullmatch(text) else Path(run)
    if not (folder / RUN_FILE).is_file():
        known = ", ".join(list_runs(settings)[-5:]) or "none yet"
        raise RunNotFoundError(f"There is no run {text!r}: no {RUN_FILE} in {folder}. The last runs: {known}.")
    try:
        facts = msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=RunFacts)
    except msgspec.DecodeError as exc:
        raise IntegrityError(f"{folder / RUN_FILE} is not a run's: {exc}.") from exc
    return Run(settings, folder.resolve(), facts)


def open_model_run(settings: Settings, model: str, run: str | None) -> Run:
    """
    Open a run and check that it is of this model; without a name the model's newest.

    Raises:
        RunNotFoundError: There is none, or it is of another model.
    """
    if run is None:
        runs = list_runs(settings, model)
        if not runs:
            raise RunNotFoundError(f"{model!r} has no run yet: start one with `lastgood train {model}`.")
        run = runs[-1]
    opened = open_run(settings, run)
    if opened.model != model:
        raise RunNotFoundError(f"Run {opened.id} is of model {opened.model!r}, not {model!r}.")
    return opened


def list_runs(settings: Settings, model: str | None = None) -> list[str]:
    """Give the names of the runs, oldest first."""
    names = [path.parent.name for path in runs_folder(settings).glob(f"*/{RUN_FILE}") if _RUN_ID.fullmatch(path.parent.name)]
    own = [name for name in names if model is None or name.rsplit("-", 3)[0] == model]
    return sorted(own, key=lambda name: name.rsplit("-", 3)[1:])


def runs_folder(settings: Settings) -> Path:
    """Give the folder that holds the runs."""
    return settings.home / "runs"
