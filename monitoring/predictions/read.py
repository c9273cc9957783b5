"""
Reads rows of the prediction log: Parquet files in one folder per model.

pyarrow is imported when something is read: serving does not need it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.errors import ConfigurationError, IntegrityError

Array = np.ndarray[Any, Any]


def read_rows(folder: Path, *, since: datetime, until: datetime, columns: Sequence[str]) -> dict[str, Array]:
    """
    Read the rows of a window.

    Args:
        folder: Of one model, with ``*.parquet`` files; one that does not exist holds no rows.
        since: Begin of the window, inclusive.
        until: Its end, exclusive.
        columns: Which to read; ``time`` comes as datetime64[us] in UTC, a column of lists as "row element", text as objects.

    Returns:
        Arrays by column, in the order of time; no arrays where there are no rows.

    Raises:
        ConfigurationError: pyarrow is not installed.
        IntegrityError: A file cannot be read, or has other columns.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as exc:
        raise ConfigurationError("Reading the prediction log needs pyarrow: pip install 'lastgood[log]'.") from exc
    wanted = list(dict.fromkeys(("time", *columns)))
    bounds = [pa.scalar(own.astimezone(UTC), pa.timestamp("us", tz="UTC")) for own in (since, until)]
    tables = []
    for file in sorted(folder.glob("*.parquet")):
        try:
            tables.append(pq.read_table(file, columns=wanted, filters=[("time", ">=", bounds[0]), ("time", "<", bounds[1])]))
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise IntegrityError(f"{file} is no prediction log with the columns {', '.join(wanted)}: {exc}. Move it away.") from exc
    tables = [own for own in tables if own.num_rows]
    if not tables:
        return {}
    # Joined as arrays: files may differ in whether a list is of fixed length.
    joined = {name: np.concatenate([_to_array(own.column(name).combine_chunks()) for own in tables]) for name in wanted}
    order = np.argsort(joined["time"], kind="stable")
    return {name: joined[name][order] for name in columns}


def _to_array(column: Any) -> Array:
    import pyarrow as pa

    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        values = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        if len(values) % max(1, len(column)):
            raise IntegrityError(f"A column has {len(values)} elements in {len(column)} rows; expected as many in each.")
        return values.reshape(len(column), -1)
    return np.asarray(column.to_numpy(zero_copy_only=False))
