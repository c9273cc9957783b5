"""
The reference profile of a version: what its inputs and answers looked like when it was tested, as a file of its content.

An NPZ file of plain arrays, never pickled; the same arrays give the same bytes:

    header       "byte" uint8: canonical JSON with the format, the features' parts, how many independent rows there were, and their accuracy
    middles      "feature" float32: the middle of each feature's cells
    sigmas       "feature" float32: robust sigma, of which eight reach to the outermost cells
    counts       "feature cell" uint32: rows of the reference in each cell; the first cell is for missing values
    means        "term feature" float64: daily rhythm of the mean score; no rows where the reference has too few times
    variances    "term feature" float64: the same of the score's variance
    edges        "bin - 1" float64: confidences between the bins of the calibration; absent where no answer is a class
    calibrated   "2 bin" uint32: labelled rows in each bin, and how many of them were right

Forbidden, because a profile may come from elsewhere: object arrays (they are pickled), compressed members (a small file could
fill the memory), sizes that do not fit together, more than `MOST_FEATURES` features, numbers that are not finite.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
import rfc8785

from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError
from lastgood.monitoring.drift.estimate import Calibration, calibrate
from lastgood.monitoring.drift.features import FeaturePlan, Part, find_confidence, plan_features
from lastgood.monitoring.drift.rhythm import TERMS, Rhythm, fit_rhythm, has_few_values
from lastgood.monitoring.drift.scores import CELLS, PER_SIGMA, Array, Cells, count_cells, find_cells, score_cells, weigh_cells

FORMAT: Final = "lastgood/drift/1"
MOST_FEATURES: Final = 4096
MOST_BYTES: Final = 16 << 20
_DIGITS: Final = 6  # kept of the rhythm, in sigma: the last bits of a solved system are another processor's business


@dataclass(frozen=True)
class Profile:
    """
    The reference of one version.

    Attributes:
        plan: Which features are taken of a row.
        rows: Independent rows it was made of; rows of one original count as one.
        middles: "feature" float32.
        sigmas: "feature" float32.
        counts: "feature cell" uint32.
        rhythm: What scores are by the hour; None where no times were known, or too few.
        calibration: From confidence to correctness; None where no output has classes or no labels were known.
    """

    plan: FeaturePlan
    rows: int
    middles: Array
    sigmas: Array
    counts: Array
    rhythm: Rhythm | None = None
    calibration: Calibration | None = None

    @cached_property
    def weights(self) -> Array:
        """The reference distribution over each feature's cells, with the assumed outliers, "feature cell" float64."""
        return np.stack([weigh_cells(own) for own in self.counts])

    @cached_property
    def scores(self) -> Array:
        """The score of each feature's cells, "feature cell" float64."""
        return np.stack([score_cells(own) for own in self.weights])

    @cached_property
    def cells(self) -> Cells:
        """What finds a value's cell."""
        return Cells(self.middles, self.sigmas)

    @cached_property
    def few(self) -> Array:
        """Which features have few values, "feature" bool."""
        return has_few_values(self.counts)

    def edges(self, feature: int) -> Array:
        """Give the edges between the cells of a feature's values, "edge" float64 ascending, in the feature's own unit."""
        places = np.arange(CELLS - 2) - (CELLS - 3) / 2
        return np.asarray(self.middles[feature] + places / PER_SIGMA * float(self.sigmas[feature]), np.float64)

    def to_bytes(self) -> bytes:
        """Give the file's bytes; the same profile gives the same."""
        tested = None if self.calibration is None else self.calibration.tested
        header: dict[str, Any] = {
            "format": FORMAT,
            "rows": self.rows,
            "tested": tested,
            "parts": [part.to_json() for part in self.plan.parts],
        }
        empty = np.zeros((0, len(self.middles)))
        means, variances = self.rhythm or (empty, empty)
        arrays: dict[str, Array] = {
            "header": np.frombuffer(rfc8785.dumps(header), np.uint8),
            "middles": self.middles,
            "sigmas": self.sigmas,
            "counts": self.counts,
            "means": means,
            "variances": variances,
        }
        if self.calibration is not None:
            arrays |= {"edges": self.calibration.edges, "calibrated": np.stack((self.calibration.rows, self.calibration.right))}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)  # members are stored and dated alike
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Profile":
        """
        Read what `to_bytes` wrote.

        Raises:
            ProfileDamagedError: It is anything else.
        """
        try:
            return _check(_read_arrays(data))
        except (ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, msgspec.DecodeError) as exc:
            raise ProfileDamagedError(f"These {len(data)} bytes are no drift profile: {exc!r}. Register the version again.") from exc


def make_profile(
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    *,
    times: Array | None = None,
    rows: int | None = None,
    calibration: Calibration | None = None,
) -> Profile:
    """
    Make a profile of rows and what the version answered to them.

    Args:
        inputs: "row …" arrays by input name, as production is expected to send them.
        outputs: "row …" arrays by output name, what the exact served file answered.
        times: "row" unix seconds, where they are known: for the daily rhythm, which needs a day of them.
        rows: How many of the rows are independent; default: all of them.
        calibration: From `calibrate_answers`.

    Raises:
        RowsMismatchError: There are no rows, or arrays of different lengths.
    """
    plan = plan_features(inputs, outputs)
    if not plan.parts or not len(next(iter(inputs.values()), ())):
        raise RowsMismatchError("A profile needs rows: there are none.")
    features = plan.extract(inputs, outputs)
    middles, sigmas = find_cells(features)
    located = Cells(middles, sigmas).locate(features)
    counts = count_cells(located, len(middles)).astype(np.uint32)
    profile = Profile(plan, len(features) if rows is None else rows, middles, sigmas, counts, None, calibration)
    if times is None:
        return profile
    if np.shape(times) != (len(features),) or not np.isfinite(times).all():
        raise RowsMismatchError(f"There are times of shape {np.shape(times)} for {len(features)} rows; expected one finite number each.")
    rhythm = fit_rhythm(np.asarray(times, np.float64), profile.scores.ravel()[located])
    return profile if rhythm is None else replace(profile, rhythm=Rhythm(*(np.round(own, _DIGITS) for own in rhythm)))


def calibrate_answers(
    plan: FeaturePlan, outputs: Mapping[str, Array], labels: Array, *, ordinary: int | None = None, independent: float = 1.0
) -> Calibration | None:
    """
    Make the calibration of a version's first output with classes; None where there is none.

    Args:
        plan: The features, which say how confidence is found.
        outputs: "row …" arrays by output name.
        labels: "row" int64, the right classes.
        ordinary: How many rows, the first ones, are like production; default: all of them.
        independent: The part of the rows that are not copies of others, in (0, 1].
    """
    part = next((part for part in plan.parts if part.kind == "classes"), None)
    if part is None:
        return None
    scores = outputs[part.name]
    return calibrate(
        find_confidence(scores, normal=part.normal), scores.argmax(axis=1) == labels, ordinary=ordinary, independent=independent
    )


def _read_arrays(data: bytes) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise ValueError(f"they are more than {MOST_BYTES}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > 10 or any(own.compress_type != zipfile.ZIP_STORED or own.file_size > len(data) for own in members):
            raise ValueError("the archive has compressed or too many members")
    with np.load(io.BytesIO(data), allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def _check(arrays: dict[str, Any]) -> Profile:
    header = msgspec.json.decode(arrays["header"].tobytes())
    if header["format"] != FORMAT:
        raise ValueError(f"the format is {header['format']!r}; this lastgood reads {FORMAT!r}")
    plan = FeaturePlan(tuple(map(Part.from_json, header["parts"])))
    size, rows = len(plan.names), header["rows"]
    if not 0 < size <= MOST_FEATURES or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"there are {size} features and {rows!r} rows; expected 1 to {MOST_FEATURES}, and one row or more")
    terms = len(arrays["means"])
    wanted = {
        "middles": ((size,), np.float32),
        "sigmas": ((size,), np.float32),
        "counts": ((size, CELLS), np.uint32),
        "means": ((terms, size), np.float64),
        "variances": ((terms, size), np.float64),
    }
    for name, (shape, kind) in wanted.items():
        own = arrays[name]
        if own.shape != shape or own.dtype != kind or not np.isfinite(own).all():
            raise ValueError(f"{name} is {own.dtype} of shape {own.shape}; expected finite {np.dtype(kind)} of shape {shape}")
    if terms not in {0, TERMS} or not (arrays["sigmas"] > 0).all():
        raise ValueError(f"the rhythm has {terms} terms, or a sigma is not above 0")
    calibration = Calibration.check(arrays["edges"], arrays["calibrated"], header["tested"]) if "edges" in arrays else None
    rhythm = Rhythm(arrays["means"], arrays["variances"]) if terms else None
    return Profile(plan, rows, arrays["middles"], arrays["sigmas"], arrays["counts"], rhythm, calibration)
