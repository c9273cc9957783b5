"""The drift monitors of one model: one for each version that has a reference, kept over the observer's own end."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from lastgood.errors import LastgoodError
from lastgood.monitoring.drift.meaning import read_sighting
from lastgood.monitoring.drift.monitor import DriftMonitor
from lastgood.monitoring.drift.profile import Profile
from lastgood.monitoring.drift.settings import DriftSettings
from lastgood.serving.observer.wire import Array, Asked, Drifted

log = structlog.get_logger()
ROWS: Final = 256  # compared at once where so many come
TOLD_SECONDS: Final = 1.0  # how often evidence is told that leads to nothing


class _Watched:
    """One version's monitor, and the rows that wait for it."""

    def __init__(self, monitor: DriftMonitor) -> None:
        self.monitor = monitor
        self.inputs: dict[str, list[Array]] = {}
        self.outputs: dict[str, list[Array]] = {}
        self.times: list[tuple[float, int]] = []
        self.rows = 0
        self.told: tuple[int, str] | None = None  # rows and state
        self.told_at = 0.0

    def compare(self) -> None:
        if not self.rows:
            return
        times = np.repeat([time for time, _ in self.times], [rows for _, rows in self.times])
        inputs, outputs = ({name: np.concatenate(parts) for name, parts in own.items()} for own in (self.inputs, self.outputs))
        self.inputs, self.outputs, self.times, self.rows = {}, {}, [], 0
        self.monitor.observe(inputs, outputs, times)


class DriftDesk:
    """Compares one model's rows with the references of the versions that answered them."""

    def __init__(self, model: str, settings: DriftSettings, folder: Path) -> None:
        """
        Begin without a version.

        Args:
            model: Which model.
            settings: How it is watched.
            folder: Where monitors are kept while nobody runs.
        """
        self._model = model
        self._settings = settings
        self._folder = folder
        self._watched: dict[int, _Watched] = {}

    def watch(self, version: int, profile: bytes) -> None:
        """Compare this version's rows from now on, going on where an earlier observer stopped."""
        try:
            reference = Profile.from_bytes(profile)
            monitor = DriftMonitor(reference, self._settings)
            with contextlib.suppress(FileNotFoundError):
                monitor = DriftMonitor.from_json(reference, json.loads(self._path(version).read_text("utf-8")), self._settings)
        except (LastgoodError, ValueError) as exc:
            log.warning("drift", model=self._model, version=version, problem=str(exc))
            with contextlib.suppress(LastgoodError):
                self._watched[version] = _Watched(DriftMonitor(Profile.from_bytes(profile), self._settings))
            return
        self._watched[version] = _Watched(monitor)

    def forget(self, version: int) -> None:
        """Compare this version's rows no more; where it stopped is kept on the disk."""
        own = self._watched.get(version)
        if own is None:
            return
        self._compare(version, own)
        if self._watched.pop(version, None) is not None:
            try:
                self._keep(version, own)
            except OSError as exc:
                log.warning("drift", model=self._model, version=version, problem=f"its monitor cannot be kept: {exc}")

    def take_batch(self, batch: Asked) -> None:
        """Take the rows of a batch that were answered; a shadow's inputs are the same requests', its outputs its own."""
        own = self._watched.get(batch.version)
        kept = np.repeat([outcome == "ok" for outcome in batch.outcomes], batch.rows)
        if own is None or not batch.inputs or not kept.any():
            return
        for gathered, tensors in ((own.inputs, batch.inputs), (own.outputs, batch.outputs)):
            for tensor in tensors:
                array = tensor.to_array()
                gathered.setdefault(tensor.name, []).append(array if kept.all() else array[kept])
        count = int(kept.sum())
        own.times.append((batch.time, count))
        own.rows += count
        if own.rows >= ROWS:
            self._compare(batch.version, own)

    def work(self) -> list[Drifted]:
        """Compare what waits; give what is new of each version: an alarm at once, the rest once a second."""
        found, now = [], time.monotonic()
        for version, own in list(self._watched.items()):
            self._compare(version, own)
            if version not in self._watched:
                continue
            report = own.monitor.report()
            fresh = (report.rows, report.state)
            same_state = own.told is not None and own.told[1] == report.state
            if fresh != own.told and not (same_state and now - own.told_at < TOLD_SECONDS):
                own.told, own.told_at = fresh, now
                evidence = math.log(max(report.evidence * report.run_length, 1e-300))
                seen = read_sighting(report)
                sighting = (seen.inputs_moved, seen.outputs_moved, seen.accuracy_fell)
                threshold = math.log(report.run_length)
                found.append(Drifted(self._model, version, evidence, threshold, report.rows, sighting, report.to_json()))
        return found

    def save(self) -> None:
        """
        Keep the monitors on the disk.

        Raises:
            OSError: They cannot be written.
        """
        for version, own in self._watched.items():
            self._keep(version, own)

    def _keep(self, version: int, own: _Watched) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(version)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(own.monitor.to_json()), "utf-8")
        fresh.replace(path)

    def _compare(self, version: int, own: _Watched) -> None:
        try:
            own.compare()
        except LastgoodError as exc:
            # The reference is of another model than the one that answers: nothing can be said about its rows.
            log.warning("drift", model=self._model, version=version, problem=str(exc))
            del self._watched[version]

    def _path(self, version: int) -> Path:
        return self._folder / f"{self._model}-{version}.json"
