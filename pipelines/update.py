"""
Training a model again: from the start, or from the live version's weights on, with what production has shown since.

`begin_update` makes the run, in a process that may open the registry; `take_update` reads the rows, in the step's own process.
What they found lies in the run folder, so that the run repeats from its archive: ``update.json``, the weights
``update/parent.npz``, and the rows of the log ``update/rows.npz``.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from lastgood.errors import ConflictError, IntegrityError, NotFoundError, RefusedError
from lastgood.monitoring.predictions.columns import log_folder
from lastgood.pipelines.data import Data
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.kept_weights import fetch_weights
from lastgood.pipelines.logged_rows import Counts, read_time, take_rows
from lastgood.pipelines.run import Run, create_run, runs_folder
from lastgood.pipelines.update_settings import UpdatePolicy, UpdateSettings, read_update
from lastgood.registry.content import Record
from lastgood.registry.hashing import hash_file
from lastgood.registry.registry import Registry
from lastgood.settings import Settings

Reason = Literal["schedule", "drift", "demand"]
UPDATE: Final = "update.json"
PARENT, ROWS = "update/parent.npz", "update/rows.npz"
RECORDED: Final = "update"  # the entry among a record's parameters
_REPLAY_SEED: Final = 0  # which rows are replayed is part of the data, whatever the run's seed


class TooFewRowsError(RefusedError):
    """The log has fewer newly labelled rows than an incremental update is worth."""

    code = "pipelines.too-few-rows"


class NothingLiveError(NotFoundError):
    """There is no live version whose weights an update could begin with."""

    code = "pipelines.nothing-live"


@dataclass(frozen=True, slots=True)
class Update:
    """What a run is an update of, and what it takes; update.json."""

    policy: UpdatePolicy
    reason: Reason
    with_log: bool  # whether it trains on rows of the log
    since: str | None  # labels up to this moment were used before; None: none were, or all are used again
    weights: str | None  # SHA-256 of the weights it goes on from
    settings: dict[str, Any]  # UpdateSettings as they were
    counts: Counts | None = None  # of the log's rows; None until they are taken

    @property
    def goes_on(self) -> bool:
        """Whether training begins with the live version's weights."""
        return self.policy == "incremental"

    @property
    def asked(self) -> UpdateSettings:
        """The policy."""
        return UpdateSettings.model_validate(self.settings)

    def to_record(self) -> dict[str, Any]:
        """Give what the version's record keeps; ``until`` says up to which label the log was used."""
        told: dict[str, Any] = {"policy": self.policy, "reason": self.reason}
        if self.goes_on:
            told |= {"epochs": self.asked.epochs, "replay_ratio": self.asked.replay_ratio}
        return told if self.counts is None else told | {"since": self.since, **asdict(self.counts)}


def begin_update(
    settings: Settings,
    model: str,
    *,
    policy: UpdatePolicy | None = None,
    reason: Reason = "demand",
    overrides: Mapping[str, str] | None = None,
    seed: int | None = None,
    why: str = "",
) -> Run:
    """
    Make the run of an update; an incremental one gets the live version's weights and parameters.

    Args:
        settings: The project.
        model: Its name.
        policy: Default: the model's own.
        reason: What started it.
        overrides: Parameters as typed, by name.
        seed: Of everything random; default: the model's next version number.
        why: A sentence for the record.

    Raises:
        ConfigurationError: The model's update policy is not valid.
        NothingLiveError: An incremental update has nothing to begin with.
        WeightsGoneError: The live version's weights are not kept.
    """
    asked = read_update(settings, model)
    policy = policy or asked.policy
    goes_on = policy == "incremental"
    overrides = dict(overrides or {})
    record, known = None, None
    with tempfile.TemporaryDirectory(prefix="lastgood-") as scratch:
        weights = Path(scratch, "weights.npz")
        if goes_on:
            parent, record = _fetch_live(settings, model, weights)
            given = {name: write_value(own) for name, own in asked.parameters.items()}
            overrides = {**_inherit(settings, model, record), **given, **overrides}
        run = create_run(settings, model, overrides=overrides, seed=seed, why=why or f"trained again ({policy}, {reason})")
        if goes_on:
            if run.facts.parent != parent:
                raise ConflictError(f"{model}'s live version changed while its update began; start it again.")
            (run.folder / PARENT).parent.mkdir()
            shutil.copyfile(weights, run.folder / PARENT)
            known = hash_file(weights)[0]
    run.write(
        UPDATE,
        Update(
            policy=policy,
            reason=reason,
            with_log=goes_on or asked.with_log,
            since=last_used(record) if record is not None else None,
            weights=known,
            settings=asked.model_dump(mode="json"),
        ),
    )
    return run


def _fetch_live(settings: Settings, model: str, weights: Path) -> tuple[str, Record]:
    """Copy the live version's weights into a new file; give its digest and record."""
    with Registry.open(settings, writer="cli") as registry:
        live = registry.aliases(model).get("live")
        if live is None:
            raise NothingLiveError(f'{model} has no live version to go on from: release one first, or use policy = "full".')
        version = registry.resolve(f"{model}@{live.number}")
        fetch_weights(registry, runs_folder(settings), version, weights)
        return version.digest, registry.record(version.digest, model=model)


def take_update(run: Run, data: Data) -> Update:
    """
    Take the rows of the log that the run's update trains on, and keep them in the run folder.

    Args:
        run: From `begin_update`.
        data: What ``load()`` gives.

    Raises:
        TooFewRowsError: There are fewer new ones than an incremental update asks for.
        DataError: The log has not the input that is trained on.
        LogMissingError: pyarrow is not installed.
    """
    update = read_taken(run)
    if update is None:
        raise IntegrityError(f"Run {run.id} is no update: {UPDATE} is not in {run.folder}.")
    if not update.with_log:
        return update
    asked = update.asked
    x, y, counts = take_rows(
        log_folder(run.settings.home, run.model),
        data,
        input_name=run.found.pipeline.input_name,
        since=read_time(update.since),
        max_rows=asked.max_rows,
        label_days=asked.label_days,
    )
    if update.goes_on and counts.used < asked.min_rows:
        raise TooFewRowsError(
            f"{run.model} has {counts.used} newly labelled rows to train on, {asked.min_rows} are asked for (min_rows): "
            f"{counts.labelled} were labelled, of which {counts.evaluation_traffic} came as evaluation traffic, "
            f"{counts.evaluation_rows} are rows of an evaluation set and {counts.unusable} cannot be used."
        )
    (run.folder / ROWS).parent.mkdir(exist_ok=True)
    np.savez(run.folder / ROWS, x=x, y=y)
    update = replace(update, counts=counts)
    run.write(UPDATE, update)
    return update


def read_taken(run: Run) -> Update | None:
    """Give what the run is an update of; None where it is a plain release."""
    return run.read(UPDATE, Update, step="retrain") if (run.folder / UPDATE).is_file() else None


def apply_update(run: Run, data: Data, *, everything: bool = False) -> Data:
    """
    Give what the run trains on: ``load()``'s rows with the log's, or the log's with some of ``load()``'s.

    Args:
        run: Any run; one that is no update trains on what it loads.
        data: What ``load()`` gives.
        everything: All of ``load()``'s rows in any case: what a pruned model is fine-tuned on.
    """
    update = read_taken(run)
    if update is None or not (run.folder / ROWS).is_file():
        return data
    try:
        with np.load(run.folder / ROWS, allow_pickle=False) as saved:
            fresh = saved["x"], saved["y"]
    except (ValueError, KeyError, OSError) as exc:
        raise IntegrityError(f"{run.folder / ROWS} is not what an update writes: {exc}. Start it again.") from exc
    x, y = data.train
    if update.goes_on and not everything:
        count = round(update.asked.replay_ratio * len(y))
        chosen = np.sort(np.random.default_rng(_REPLAY_SEED).permutation(len(y))[:count])
        x, y = x[chosen], y[chosen]
    return replace(data, train=(np.concatenate([x, fresh[0]]), np.concatenate([y, fresh[1]])))


def fingerprint(run: Run, data: Data) -> str:
    """Give the fingerprint of what a run is trained on: its rows, and the weights it goes on from."""
    update = read_taken(run)
    if update is None or update.weights is None:
        return data.fingerprint()
    return f"sha256:{hashlib.sha256(f'{data.fingerprint()} from {update.weights}'.encode()).hexdigest()}"


def goes_on(run: Run) -> bool:
    """Say whether a run goes on from the live version's weights."""
    update = read_taken(run)
    return update is not None and update.goes_on


def describe_update(run: Run) -> dict[str, Any] | None:
    """Give what decides how an update trains beside data, parameters and seed, for a cache's key."""
    update = read_taken(run)
    return None if update is None or not update.goes_on else {"weights": update.weights, "epochs": update.asked.epochs}


def last_used(record: Record) -> str | None:
    """Give the time of the last label that a version's training used; None where it used none."""
    told = record.parameters.get(RECORDED)
    until = told.get("until") if isinstance(told, Mapping) else None
    return until if isinstance(until, str) else None


def write_value(value: Any) -> str:
    """Give a parameter's value as a person would type it."""
    return value if isinstance(value, str) else json.dumps(value)


def _inherit(settings: Settings, model: str, record: Record) -> dict[str, str]:
    """Give the parent's parameters that the pipeline still has: the structure must be the one whose weights are loaded."""
    known = find_pipeline(settings, model).pipeline.parameters
    return {name: write_value(value) for name, value in record.parameters.items() if name in known}
