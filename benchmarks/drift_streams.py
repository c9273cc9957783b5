"""Streams to watch for drift: 50 features that stay as they were, by the day or not, and what becomes of one that is moved."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lastgood.monitoring.drift.monitor import DriftMonitor
from lastgood.monitoring.drift.profile import Profile, make_profile
from lastgood.monitoring.drift.settings import DriftSettings

Array = np.ndarray[Any, Any]
FEATURES = 50
MOVED = 7  # the feature that is shifted
DAY = 86_400  # seconds, and requests: one a second
REFERENCE_DAYS = 14


@dataclass(frozen=True)
class Stream:
    """
    One world: how rows come about, what the reference knows, and how the monitor is set.

    Attributes:
        rows: Of the reference.
        amplitude: Of each feature's daily wave, in sigma of its noise; the phases differ.
        times: Whether the reference has row times.
        settings: Of the monitor.
        shape: What becomes of standard normal values, "row feature".
        warm: Seconds of quiet before anything is measured, to learn from.
    """

    rows: int
    amplitude: float = 0.0
    times: bool = False
    settings: DriftSettings = field(default_factory=DriftSettings)
    shape: Callable[[Array], Array] = np.asarray
    warm: int = 0


def odd_shapes(values: Array) -> Array:
    """Make a fifth each heavy-tailed (Student, 2 degrees), lognormal, counts, flags of one in fifty, categories of four."""
    from scipy.stats import t

    found, chance = values.copy(), 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)))
    fifth = FEATURES // 5
    found[:, :fifth] = t.ppf(np.clip(chance[:, :fifth], 1e-6, 1 - 1e-6), 2)
    found[:, fifth : 2 * fifth] = np.exp(1.5 * values[:, fifth : 2 * fifth])
    found[:, 2 * fifth : 3 * fifth] = np.floor(np.exp(values[:, 2 * fifth : 3 * fifth]))
    found[:, 3 * fifth : 4 * fifth] = chance[:, 3 * fifth : 4 * fifth] > 0.98
    found[:, 4 * fifth :] = np.floor(4 * chance[:, 4 * fifth :])
    return found


STREAMS = {
    "iid": Stream(5_000, settings=DriftSettings(rhythm="none")),
    "diurnal, reference with times": Stream(10_000, amplitude=1.0, times=True),
    "diurnal, rhythm learnt from the first day": Stream(10_000, amplitude=1.0, warm=DAY + 3600),
    "iid, heavy tails, counts, flags, categories": Stream(5_000, settings=DriftSettings(rhythm="none"), shape=odd_shapes),
}


class World:
    """A stream with its phases and its reference drawn."""

    def __init__(self, stream: Stream, random: np.random.Generator) -> None:
        """Draw them."""
        self.stream, self.random = stream, random
        self.phases = random.random(FEATURES) * 2 * np.pi
        self.reference_times = np.sort(random.random(stream.rows)) * DAY * REFERENCE_DAYS
        self.reference = self.draw(self.reference_times)
        self.now = float(random.integers(DAY))

    def draw(self, times: Array, *, shift: float = 0.0) -> Array:
        """Draw rows at times, "row feature" float32; the shift is in sigma of the noise."""
        values = self.random.standard_normal((len(times), FEATURES), np.float32)
        values[:, MOVED] += np.float32(shift)
        if self.stream.amplitude:
            waves = np.sin((2 * np.pi / DAY) * times[:, None] + self.phases)
            values += (self.stream.amplitude * waves).astype(np.float32)
        return np.asarray(self.stream.shape(values), np.float32)

    def profile(self) -> Profile:
        """Give the reference's profile."""
        return make_profile({"x": self.reference}, {}, times=self.reference_times if self.stream.times else None)

    def advance(self, rows: int, *, shift: float = 0.0) -> tuple[Array, Array]:
        """Give the next rows and their times, one a second."""
        times = self.now + np.arange(rows, dtype=np.float64)
        self.now += rows
        return self.draw(times, shift=shift), times

    def feed(self, monitor: DriftMonitor, rows: int, *, shift: float = 0.0, batch: int = 256) -> int:
        """Let a monitor see rows; give how many alarms were raised."""
        alarms, raised = 0, monitor.report().raised_at
        for start in range(0, rows, batch):
            values, times = self.advance(min(batch, rows - start), shift=shift)
            monitor.observe({"x": values}, {}, times)
            if monitor.raised_at != raised:
                alarms, raised = alarms + 1, monitor.raised_at
        return alarms
