"""The tensors of two versions side by side: which are the same, and how far the others lie apart."""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastgood.registry.compare.distance import Distance, Distances
from lastgood.registry.materialize import naming
from lastgood.registry.store.elements import Bytes
from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.stored_file import StoredFile, Stretch

Change = Literal["same", "changed", "moved", "renamed", "reshaped", "retyped", "added", "removed"]
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TensorSide:
    """A tensor in one of the two versions; its type in the words of safetensors."""

    path: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    def __str__(self) -> str:
        """Give type and shape."""
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class TensorChange:
    """
    What became of a tensor.

    Attributes:
        path: The file; the second version's where they differ.
        name: The tensor's; the second version's where it was renamed.
        change: ``moved``: the same bytes in another file, ``renamed``: under another name. ``reshaped``: another shape,
            ``retyped``: another type; neither is compared by value.
        before: None where it was added.
        after: None where it was removed.
        same_bytes: Whether every byte is the same.
        distance: Of a changed tensor.
    """

    path: str
    name: str
    change: Change
    before: TensorSide | None
    after: TensorSide | None
    same_bytes: bool = False
    distance: Distance | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """A file of a version and the tensors that were found in it; ``pair`` is the name it shares with the other version's."""

    digest: str
    path: str
    pair: str
    file: StoredFile
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A tensor and where it is."""

    located: Located
    tensor: Tensor

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        return self.tensor.dtype, self.tensor.shape

    def list_stretches(self) -> list[Stretch]:
        return self.located.file.list_stretches(self.tensor)

    def read(self, stretch: Stretch) -> Bytes:
        """Read some elements; errors name the version, the file and the tensor."""
        with naming(self.located.digest, self.located.path):
            return self.located.file.read_stretch(self.tensor, stretch)

    def hash(self) -> bytes:
        """Give a name for the bytes: the same as another's of as many bytes only if they are the same."""
        digest = hashlib.sha256()
        for stretch in self.list_stretches():
            digest.update(stretch.sha256 or hashlib.sha256(self.read(stretch)).digest())
        return digest.digest()

    def describe(self) -> TensorSide:
        return TensorSide(self.located.path, self.tensor.name, self.tensor.dtype, self.tensor.shape, self.tensor.nbytes)


def compare_tensors(before: Sequence[Located], after: Sequence[Located], on_bytes: OnBytes) -> list[TensorChange]:
    """
    Compare the tensors of files; of what is stored as the same segments nothing is read twice, and mostly nothing.

    Tensors belong together by name in files that do; else by a name that each version has once; else by their bytes.

    Args:
        before: The first version's files.
        after: The second's.
        on_bytes: Is told how many bytes were dealt with since the last time, each byte of both versions once.

    Returns:
        In the order of the second version's files, then what was removed.

    Raises:
        FileDamagedError: A segment does not hash to its name; says in which version, file and tensor.
        FileMissingError: A segment is gone; says the same.
    """
    old, new = ([_Found(own, tensor) for own in located for tensor in own.tensors] for located in (before, after))
    matches = _match(old, new)
    changes = []
    for index, own in enumerate(new):
        was = matches.get(index)
        if was is None:
            side = own.describe()
            changes.append(TensorChange(side.path, side.name, "added", None, side))
            on_bytes(side.nbytes)
        else:
            changes.append(_compare(old[was], own, on_bytes))
    kept = set(matches.values())
    for index, own in enumerate(old):
        if index not in kept:
            side = own.describe()
            changes.append(TensorChange(side.path, side.name, "removed", side, None))
            on_bytes(side.nbytes)
    return changes


def _match(old: Sequence[_Found], new: Sequence[_Found]) -> dict[int, int]:
    """
    Give by its place among the new ones where a tensor was among the old ones.

    By a name alone, or by bytes, type and shape alone, only what there is once on each side: of several biases of zeros
    nobody knows which became which.
    """
    matches = _join(
        {(own.located.pair, own.tensor.name): index for index, own in enumerate(old)},
        {(own.located.pair, own.tensor.name): index for index, own in enumerate(new)},
    )

    def list_left() -> tuple[list[int], list[int]]:
        kept = set(matches.values())
        return [i for i in range(len(old)) if i not in kept], [i for i in range(len(new)) if i not in matches]

    left = list_left()
    matches |= _join(_index_once((old[i].tensor.name, i) for i in left[0]), _index_once((new[i].tensor.name, i) for i in left[1]))
    left = list_left()
    shared = {old[i].kind for i in left[0]} & {new[i].kind for i in left[1]}  # nothing else needs to be read
    hashed = [
        _index_once(((own[i].kind, own[i].hash()), i) for i in places if own[i].kind in shared)
        for own, places in zip((old, new), left, strict=True)
    ]
    return matches | _join(hashed[0], hashed[1])


def _index_once(keyed: Iterable[tuple[Hashable, int]]) -> dict[Hashable, int]:
    """Give places by key, without those keys that come again."""
    pairs = list(keyed)
    counts = Counter(key for key, _ in pairs)
    return {key: index for key, index in pairs if counts[key] == 1}


def _join(old: Mapping[Any, int], new: Mapping[Any, int]) -> dict[int, int]:
    return {index: old[key] for key, index in new.items() if key in old}


def _compare(was: _Found, own: _Found, on_bytes: OnBytes) -> TensorChange:
    before, after = was.describe(), own.describe()
    distance, change = None, _name_change(was, own)
    if change is None:
        distance = _measure(was, own, on_bytes)
        change = "changed" if distance is not None else "moved" if was.located.pair != own.located.pair else "same"
        same = distance is None
    else:
        same = change == "renamed" or (before.nbytes == after.nbytes and was.hash() == own.hash())
        on_bytes(before.nbytes + after.nbytes)
    return TensorChange(after.path, after.name, change, before, after, same_bytes=same, distance=distance)


def _name_change(was: _Found, own: _Found) -> Change | None:
    """Say what makes two tensors ones that are not compared by value; None where they are."""
    if was.tensor.dtype != own.tensor.dtype:
        return "retyped"
    if was.tensor.shape != own.tensor.shape:
        return "reshaped"
    return "renamed" if was.tensor.name != own.tensor.name else None


def _measure(was: _Found, own: _Found, on_bytes: OnBytes) -> Distance | None:
    """Give how far two tensors of one type and shape lie apart; None where every byte is the same."""
    pairs = list(zip(was.list_stretches(), own.list_stretches(), strict=True))
    if all(_is_same(*pair) for pair in pairs):
        on_bytes(was.tensor.nbytes + own.tensor.nbytes)
        return None
    added = Distances(was.tensor.dtype)
    for one, other in pairs:
        first = was.read(one)
        # A segment both have is read once, for the norms need it.
        added.add(first, first if _is_same(one, other) else own.read(other))
        on_bytes(one.nbytes + other.nbytes)
    found = added.finish()
    return found if found.changed else None


def _is_same(one: Stretch, other: Stretch) -> bool:
    return one.sha256 is not None and one.sha256 == other.sha256
