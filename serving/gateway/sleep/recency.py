"""
When each model was last asked, kept over a restart: what is asked most lately comes up first.

A hint and nothing more: a file that is damaged, or gone, costs the order and no request.
"""

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class Recency:
    """Unix times by model, in a file of the gateway's home."""

    def __init__(self, path: Path) -> None:
        """Read the file, if it can be read."""
        self._path = path
        self._times = _read(path)

    def order(self, models: Iterable[str]) -> list[str]:
        """Give models, the one that was asked last first; those of which nothing is known last, by name."""
        return sorted(models, key=lambda model: (-self._times.get(model, -math.inf), model))

    def recall(self, model: str) -> float:
        """Give the time at which a model was last asked, in monotonic seconds of this process; minus infinity where it is not known."""
        return self._times[model] + time.monotonic() - time.time() if model in self._times else -math.inf

    def keep(self, times: Mapping[str, float]) -> None:
        """
        Write when models were last asked, in monotonic seconds; of those that are not named the old time stays.

        A disk that is full is logged and changes nothing else.
        """
        now = time.time() - time.monotonic()
        found = {model: round(seconds + now, 2) for model, seconds in times.items() if seconds > -math.inf}
        if all(self._times.get(model) == seconds for model, seconds in found.items()):
            return
        self._times.update(found)
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            fresh.write_text(json.dumps(self._times, sort_keys=True), "utf-8")
            fresh.replace(self._path)
        except OSError as exc:
            log.warning("when models were last asked cannot be kept: %s", exc)


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return {str(model): float(time) for model, time in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
