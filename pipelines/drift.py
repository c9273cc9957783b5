"""
Production of a window beside what a version was tested on, feature by feature, from the prediction log.

For people who want to look: each day by a schedule, or for a window that is asked about. What raises alarms is the monitor in the
gateway, which sees every request; here are the distributions.
"""

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from lastgood.errors import IntegrityError, NotFoundError
from lastgood.monitoring.drift.estimate import AccuracyEstimate, estimate_accuracy
from lastgood.monitoring.drift.features import FeaturePlan
from lastgood.monitoring.drift.profile import Profile
from lastgood.monitoring.drift.scores import count_cells
from lastgood.monitoring.drift.statistics import Comparison, compare_counts, correct_all
from lastgood.monitoring.predictions.read import LeftOut, read_rows
from lastgood.pipelines.data import Array
from lastgood.refs import check_model_name
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings

LOG: Final = "predictions"
LEAST_ROWS: Final = 100
BATCH: Final = 65_536


class NoRowsError(NotFoundError):
    """The log has too few rows of the version in the window: no data is no answer."""

    code = "drift.no-rows"


class NoProfileError(NotFoundError):
    """The version has no drift reference."""

    code = "drift.no-profile"


@dataclass(frozen=True)
class WindowReport:
    """
    A window beside the reference.

    Attributes:
        version: Which version's reference and rows.
        since: Begin of the window.
        until: Its end.
        rows: Of the version in the window.
        profile: The reference.
        counts: "feature cell" int64 of the window.
        comparisons: One for each feature, p-values corrected.
        accuracy: Estimated without labels; None where no output has classes.
    """

    version: Version
    since: datetime
    until: datetime
    rows: int
    profile: Profile
    counts: Array
    comparisons: list[Comparison]
    accuracy: AccuracyEstimate | None

    @property
    def ranked(self) -> list[tuple[int, str, Comparison]]:
        """Number, name and comparison of each feature, the most different first."""
        rows = zip(range(len(self.comparisons)), self.profile.plan.names, self.comparisons, strict=True)
        return sorted(rows, key=lambda row: (not row[2].moved, -row[2].wasserstein_sigma, -row[2].psi))

    @property
    def moved(self) -> list[str]:
        """Names of the features that moved, the most different first."""
        return [name for _, name, own in self.ranked if own.moved]

    @property
    def sentence(self) -> str:
        """Say it in a sentence or two."""
        names = self.moved
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        text = f"{self.version}: {f'{listed} moved' if names else 'nothing moved'}, {self.rows:,} rows of {len(self.comparisons)} features."
        if self.accuracy is not None:
            own = self.accuracy
            text += f" Estimated accuracy {own.accuracy:.1%} ({own.low:.1%} to {own.high:.1%}); tested {own.reference:.1%}."
        return text


def read_profile(registry: Registry, version: Version) -> Profile:
    """
    Give a version's reference, verified.

    Raises:
        NoProfileError: It has none: it was imported, or registered before there were any.
        IntegrityError: It is not what was registered.
    """
    content = registry.content(version.digest)
    if content.drift is None:
        raise NoProfileError(f"{version} has no drift reference: it was not made by a pipeline. Release it with one.")
    with tempfile.TemporaryDirectory() as folder:
        return Profile.from_bytes((registry.materialize(version.digest, Path(folder, "version")) / content.drift).read_bytes())


def compare_window(
    settings: Settings, registry: Registry, ref: str, *, since: datetime, until: datetime, traffic: str | None = None
) -> WindowReport:
    """
    Compare what a version answered in a window with its reference.

    Args:
        settings: Where the log is.
        registry: Where the version is.
        ref: Which version, such as ``digits@live``.
        since: Begin of the window, inclusive. Whole days, or a daily rhythm is seen as drift.
        until: Its end, exclusive.
        traffic: Only rows with this label; default: all.

    Raises:
        VersionNotFoundError: The reference names none.
        NoProfileError: The version has no drift reference.
        NoRowsError: The log has fewer than `LEAST_ROWS` rows of it.
        IntegrityError: The log or the profile is not what was written.
    """
    version = registry.resolve(ref)
    profile = read_profile(registry, version)
    folder = settings.home / LOG / check_model_name(version.model)
    parts = {f"{part.side}/{part.name}": part for part in profile.plan.parts}
    left_out: list[LeftOut] = []
    found = read_rows(folder, since=since, until=until, columns=["traffic", *parts], version=version.number, on_left_out=left_out.append)
    own = np.ones(len(found["traffic"]), np.bool_) if traffic is None else np.asarray(found["traffic"] == traffic, np.bool_)
    rows = int(own.sum())
    if rows < LEAST_ROWS:
        others = ""
        if left_out:
            lacks = sorted({name for own_file in left_out for name in own_file.lacks})
            others = f" that can be compared, and {sum(own_file.rows for own_file in left_out)} in files without {', '.join(lacks)}"
        raise NoRowsError(
            f"{folder} has {rows} rows of {version} from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}{others}; "
            f"a comparison needs {LEAST_ROWS}."
        )
    features = _extract(profile.plan, {name: found[name][own] for name in parts})
    counts = count_cells(profile.cells.locate(features), features.shape[1])
    comparisons = correct_all([compare_counts(*pair) for pair in zip(profile.counts, counts, strict=True)])
    accuracy, calibration, confidence = None, profile.calibration, profile.plan.confidence
    if calibration is not None and confidence is not None:
        bins = np.searchsorted(calibration.edges, features[:, confidence], side="right")
        accuracy = estimate_accuracy(calibration, np.bincount(bins, minlength=len(calibration.rows)))
    return WindowReport(version, since, until, rows, profile, counts, comparisons, accuracy)


def _extract(plan: FeaturePlan, columns: dict[str, Array]) -> Array:
    """Take the features of logged rows, whose arrays were flattened row by row."""
    sides: dict[str, dict[str, Array]] = {"in": {}, "out": {}}
    for part in plan.parts:
        array = columns[f"{part.side}/{part.name}"]
        try:
            sides[part.side][part.name] = array.reshape(len(array), *part.shape)
        except ValueError as exc:
            raise IntegrityError(f"The log has {part.name!r} of {array.shape[1:]} elements a row; {part.shape} was expected.") from exc
    every = len(next(iter(columns.values())))
    pieces = [
        plan.extract(*({name: own[start : start + BATCH] for name, own in sides[side].items()} for side in ("in", "out")))
        for start in range(0, every, BATCH)
    ]
    return np.concatenate(pieces)
