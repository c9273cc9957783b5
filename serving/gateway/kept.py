"""What came before and is not looked at again, in bounded numbers."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value; the oldest one gives way where there are ``most`` already."""
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
