"""What of a log goes: always the oldest, as if every file were kept in mind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.predictions import retention
from lastgood.monitoring.predictions.columns import file_name
from lastgood.monitoring.predictions.retention import Retention

FILES = st.tuples(st.integers(0, 1), st.integers(0, 400), st.integers(0, 30), st.booleans())


@given(before=st.lists(FILES, max_size=20), after=st.lists(FILES, min_size=1, max_size=40), room=st.integers(40, 200))
def test_the_oldest_go_whatever_is_kept_in_mind(
    tmp_path_factory: pytest.TempPathFactory, before: list[tuple[int, int, int, bool]], after: list[tuple[int, int, int, bool]], room: int
) -> None:
    """Of two folders, in any order of times, beyond a size and an age; few are kept in mind."""
    root = tmp_path_factory.mktemp("log")
    folders = (root, root / "labels")
    folders[1].mkdir()
    left: dict[Path, int] = {}
    now = datetime.now(UTC)
    oldest = file_name(now - timedelta(minutes=300, seconds=30), 0)

    def write(index: int, file: tuple[int, int, int, bool]) -> tuple[Path, int]:
        folder, minutes, size, _ = file
        path = folders[folder] / file_name(now - timedelta(minutes=minutes), index)
        path.write_bytes(bytes(size))
        left[path] = size
        return path, size

    for index, file in enumerate(before):
        write(index, file)
    kept = Retention(folders, max_bytes=room, max_seconds=300 * 60 + 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "OLDEST", 2)
        for index, file in enumerate(after, len(before)):
            if file[3]:
                patch.setattr(kept, "_listed_at", float("-inf"))
            kept.add(*write(index, file))
            while left and (sum(left.values()) > room or min(path.name for path in left) < oldest):
                del left[min(left, key=lambda path: (path.name, path.parent))]
            assert left.keys() == {path for path in root.rglob("*") if path.is_file()}
            assert len(kept._oldest) <= 4
