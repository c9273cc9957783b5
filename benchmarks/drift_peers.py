"""
Evidently and NannyML, each in an environment of its own, on the same rows as ours.

Both compare a window of requests with the reference; they have no default for how large one is, beyond NannyML's ten chunks of
whatever it is given, so the window is stated with each figure. Thresholds and methods are their defaults: Evidently's DataDriftPreset
(normed Wasserstein distance of 0.1 where the reference has more than 1,000 rows; half of the columns make a drifted data set),
NannyML's UnivariateDriftCalculator (Jensen-Shannon distance, mean and three standard deviations of the reference's chunks).

Source: Evidently, "Data drift" (https://docs.evidentlyai.com/metrics/explainer_drift); NannyML, "Univariate drift detection",
"Thresholds" (https://nannyml.readthedocs.io).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# Newer pandas breaks both at import; NannyML 0.13.1 does not name statsmodels, which it needs.
NEEDS = {"evidently": ("evidently>=0.7,<0.8", "pandas<3"), "nannyml": ("nannyml>=0.13,<0.14", "pandas<3", "statsmodels")}
TRIES = ("3.11", "3.12", "3.10")
_SECONDS = 1800


class PeerAwayError(Exception):
    """It cannot be installed or does not start here; the text says what was tried."""


class Peer:
    """One of them, in a throwaway environment."""

    def __init__(self, name: str, folder: Path) -> None:
        """
        Install it.

        Raises:
            PeerAwayError: With no Python of `TRIES`.
        """
        self.name, said = name, []
        for python in TRIES:
            place = folder / f"{name}-{python}"
            self._python = place / "bin" / "python"
            commands: list[list[str]] = [
                ["venv", "--quiet", "--python", python, str(place)],
                ["pip", "install", "--quiet", "--python", str(self._python), *NEEDS[name]],
            ]
            done = None
            for command in commands:
                done = subprocess.run([sys.executable, "-m", "uv", *command], capture_output=True, text=True, check=False, timeout=_SECONDS)
                if done.returncode:
                    break
            if done is not None and not done.returncode:
                check = subprocess.run([str(self._python), __file__, name], capture_output=True, text=True, check=False, timeout=_SECONDS)
                if not check.returncode:
                    self.version = check.stdout.strip().splitlines()[-1]
                    return
                done = check
            said.append(f"Python {python}: {(done.stderr if done else '').strip().splitlines()[-1:]}")
        raise PeerAwayError(f"{name} could not be had: {'; '.join(said)}")

    def judge(self, reference: Any, windows: Any) -> list[dict[str, Any]]:
        """
        Compare windows with a reference.

        Args:
            reference: "row feature".
            windows: "window row feature".

        Returns:
            For each window: "columns", the features it calls drifted, and "whole", whether the data set is.
        """
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder, "given.npz"), Path(folder, "found.json")
            np.savez(given, reference=reference, windows=windows)
            done = subprocess.run(
                [str(self._python), __file__, self.name, str(given), str(found)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
                env={**os.environ, "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"},
            )
            if done.returncode:
                raise PeerAwayError(f"{self.name} failed: {done.stderr[-500:]}")
            answer: list[dict[str, Any]] = json.loads(found.read_text("utf-8"))
            return answer


def run_evidently(reference: Any, windows: Any, names: list[str]) -> list[dict[str, Any]]:
    """Run the data drift preset on each window; in Evidently's environment."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before, found = pd.DataFrame(reference, columns=names), []
    for window in windows:
        metrics = Report([DataDriftPreset()]).run(pd.DataFrame(window, columns=names), before).dict()["metrics"]
        whole = next(own for own in metrics if own["config"]["type"].endswith("DriftedColumnsCount"))
        single = [own for own in metrics if own["config"]["type"].endswith("ValueDrift")]
        columns = []
        for own in single:
            is_distance = "distance" in own["config"]["method"]  # else a p-value
            value, threshold = float(own["value"]), own["config"]["threshold"]
            if value >= threshold if is_distance else value < threshold:
                columns.append(own["config"]["column"])
        if len(columns) != int(whole["value"]["count"]):
            raise SystemExit(f"{len(columns)} columns are read as drifted; Evidently counts {whole['value']['count']}")
        found.append({"columns": columns, "whole": whole["value"]["share"] >= whole["config"]["drift_share"]})
    return found


def run_nannyml(reference: Any, windows: Any, names: list[str]) -> list[dict[str, Any]]:
    """Run the univariate calculator with a window as its chunk; in NannyML's environment."""
    import nannyml
    import pandas as pd

    calculator = nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=windows.shape[1])
    calculator.fit(pd.DataFrame(reference, columns=names))
    frame = calculator.calculate(pd.DataFrame(np.concatenate(list(windows)), columns=names)).filter(period="analysis").to_df()
    alerts = frame.xs("alert", axis=1, level=-1)
    return [{"columns": [own[0] for own in alerts.columns[row.to_numpy(bool)]], "whole": False} for _, row in alerts.iterrows()]


def run_here() -> None:
    """Answer `Peer`, in the environment it made: the version without arguments, else the windows."""
    if len(sys.argv) == 2:
        from importlib.metadata import version

        __import__(sys.argv[1])
        print(version(sys.argv[1]))
        return
    with np.load(sys.argv[2], allow_pickle=False) as saved:
        reference, windows = saved["reference"], saved["windows"]
    run = {"evidently": run_evidently, "nannyml": run_nannyml}[sys.argv[1]]
    Path(sys.argv[3]).write_text(json.dumps(run(reference, windows, [f"x{index}" for index in range(reference.shape[1])])), "utf-8")


if __name__ == "__main__":
    run_here()
