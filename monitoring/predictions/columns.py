"""
The columns of the prediction log, and where its files lie.

``<home>/predictions/<model>/TIME-NUMBER.parquet`` holds answers, a row each; ``…/labels/TIME-NUMBER.parquet`` what was
told of them later. Both have the time in their names (UTC, ``20260101T000000.000000``), so that a listing is in order.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# Of every answer; inputs are "in/NAME", outputs "out/NAME", each a list of the row's elements, row-major.
ANSWER_COLUMNS: Final = ("time", "id", "version", "role", "traffic", "slice", "outcome", "answer", "confidence")
LABEL_COLUMNS: Final = ("time", "id", "label")
INPUT, OUTPUT = "in/", "out/"
SUFFIX: Final = ".parquet"
_TIME: Final = "%Y%m%dT%H%M%S.%f"


def log_folder(home: Path, model: str) -> Path:
    """Say where a model's log lies."""
    return home / "predictions" / model


def labels_folder(folder: Path) -> Path:
    """Say where the labels of a log lie."""
    return folder / "labels"


def file_name(time: datetime, number: int) -> str:
    """Name a file by the time of its last row."""
    return f"{time.strftime(_TIME)}-{number:04d}{SUFFIX}"


def list_files(folder: Path, since: datetime | None = None) -> list[Path]:
    """Give the files with rows of this time (UTC) or later, in order."""
    least = "" if since is None else since.strftime(_TIME)
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name >= least)


def read_settled(folder: Path, before: datetime) -> datetime | None:
    """Give the time (UTC) of the last row in files that were written before a moment; None where there is none."""
    last = None
    for path in list_files(folder):
        try:
            written = path.stat().st_mtime
            time = datetime.strptime(path.name.partition("-")[0], _TIME).replace(tzinfo=UTC)
        except (FileNotFoundError, ValueError):  # its time was over meanwhile, or it is somebody's own
            continue
        if written < before.timestamp():
            last = time
    return last
