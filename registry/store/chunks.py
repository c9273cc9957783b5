"""
Bytes without a known structure cut where their content says, so that what is inserted or moved changes the chunks around it alone.

A cut is behind a byte where the upper bits of a hash of the 32 bytes up to there are all zero. The hash is a sum of one random word for
each byte, shifted by its distance: 32 bits, so that a byte further back has no part in it. So it is computed for a whole block at once,
by doubling the distance.

Source: gear hashing and cut-point skipping, "FastCDC", W. Xia et al., USENIX ATC 2016.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from lastgood.registry.store.elements import Bytes

Array = np.ndarray[Any, np.dtype[Any]]
LEAST_BYTES: Final = 16 << 10
MEAN_BYTES: Final = 64 << 10  # about what a chunk has above the least
MOST_BYTES: Final = 256 << 10
_WINDOW: Final = 32
_BLOCK_BYTES: Final = 1 << 16
_ZEROS: Final = np.uint32(0xFFFFFFFF ^ (0xFFFFFFFF // MEAN_BYTES))
# A random word for each byte. Never change it: files cut with other words share no chunk with those that are cut from then on.
_WORDS: Final = np.frombuffer(b"".join(hashlib.sha256(bytes([byte])).digest()[:4] for byte in range(256)), "<u4")


def find_cuts(data: Bytes) -> list[int]:
    """Give where chunks end, the last one at the end; nothing of nothing."""
    size, cuts, start = len(data), list[int](), 0
    candidates = np.concatenate([*_find_candidates(data), np.array([size])])
    while start < size:
        least, most = start + LEAST_BYTES, start + MOST_BYTES
        start = size if size <= least else min(int(candidates[np.searchsorted(candidates, least)]), most)
        cuts.append(start)
    return cuts


def _find_candidates(data: Bytes) -> Iterator[Array]:
    """Give every place where a chunk might end, in order."""
    raw = np.frombuffer(data, np.uint8)
    for start in range(0, len(raw), _BLOCK_BYTES):
        before = min(start, _WINDOW - 1)
        hashes = _WORDS[raw[start - before : start + _BLOCK_BYTES]]
        distance = 1
        while distance < _WINDOW:
            shifted = hashes[:-distance] << np.uint32(distance)
            hashes[distance:] += shifted
            distance *= 2
        yield np.flatnonzero((hashes[before:] & _ZEROS) == 0) + start + 1
