"""What processes hold (resident memory, descriptors, threads), and whether a figure that was taken again and again grows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from scipy import stats

Array = np.ndarray[Any, np.dtype[np.float64]]
_BLOCKS = 10  # figures that follow each other are alike: an interval is of the means of so many stretches


@dataclass(frozen=True, slots=True)
class Vital:
    """One process at one time."""

    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line's slope, by unit of x, and half the width of its 95 % interval."""

    slope: float
    margin: float

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.slope - self.margin

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.slope + self.margin

    def write(self, unit: float = 1.0) -> str:
        """Give "slope (low to high)", each divided by ``unit``."""
        return f"{self.slope / unit:,.1f} ({self.low / unit:,.1f} to {self.high / unit:,.1f})"


def look(pid: int) -> Vital | None:
    """Look at a process; None where it has gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Vital(process.memory_info().rss, process.num_fds(), process.num_threads())
    except psutil.Error:
        return None


def find_children(pid: int) -> dict[int, str]:
    """Give what a process started, and what that did, as command lines by process id."""
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        try:
            found[child.pid] = " ".join(child.cmdline())
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """
    Fit a line through all points; its interval is that of a line through the means of ten stretches.

    Args:
        x: At least 20 values, growing.
        y: As many.

    Raises:
        ValueError: There are fewer points.
    """
    if len(x) < 2 * _BLOCKS:
        raise ValueError(f"{len(x)} points say nothing about a slope; expected {2 * _BLOCKS} or more")
    slope, _ = _fit(np.asarray(x, float), np.asarray(y, float))
    blocks = [np.array([part.mean() for part in np.array_split(np.asarray(own, float), _BLOCKS)]) for own in (x, y)]
    _, error = _fit(*blocks)
    return Line(slope, error * float(stats.t.ppf(0.975, _BLOCKS - 2)))


def _fit(x: Array, y: Array) -> tuple[float, float]:
    """Give the slope of the least-squares line and its standard error; of figures that are all the same, zeros."""
    apart = x - x.mean()
    spread = float(apart @ apart)
    slope = float(apart @ y) / spread
    rest = y - y.mean() - slope * apart
    return slope, math.sqrt(float(rest @ rest) / (len(x) - 2) / spread)


def find_window_quantiles(moments: Sequence[tuple[float, float]], begin: float, end: float, seconds: float, quantile: float) -> list[float]:
    """
    Give a quantile of each window of some seconds, so that a pause of the machine spoils one of them and not the whole.

    Args:
        moments: When something was seen, and its value, in any order.
        begin: Of the first window.
        end: A window that would end later is left out.
        seconds: Length of a window.
        quantile: From 0 to 1.
    """
    windows: list[list[float]] = [[] for _ in range(math.floor((end - begin) / seconds + 1e-9))]
    for moment, value in moments:
        place = math.floor((moment - begin) / seconds)
        if 0 <= place < len(windows):
            windows[place].append(value)
    return [float(np.quantile(own, quantile)) for own in windows if own]
