"""The tensors of two versions of a file side by side: which are the same, and how far the others lie apart."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lastgood.registry.compare.distance import Distance, Distances
from lastgood.registry.materialize import naming
from lastgood.registry.store.elements import Bytes
from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.stored_file import StoredFile, Stretch

Change = Literal["same", "changed", "renamed", "reshaped", "retyped", "added", "removed"]
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TensorSide:
    """A tensor in one of the two versions; its type in the words of safetensors."""

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
        change: ``renamed``: the same bytes under another name. ``reshaped``: another shape, ``retyped``: another type;
            neither is compared by value.
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
    """A file of a version, and the tensors that were found in it."""

    digest: str
    path: str
    file: StoredFile
    tensors: tuple[Tensor, ...]

    def read(self, tensor: Tensor, stretch: Stretch) -> Bytes:
        """Read some elements; errors name the version, the file and the tensor."""
        with naming(self.digest, self.path):
            return self.file.read_stretch(tensor, stretch)


def compare_tensors(path: str, before: Located | None, after: Located | None, on_bytes: OnBytes) -> list[TensorChange]:
    """
    Compare the tensors of two files; of what is stored as the same segments nothing is read twice, and mostly nothing.

    Args:
        path: What to call the file.
        before: The first; None where its version has no such file.
        after: The second; the same.
        on_bytes: Is told how many bytes were dealt with since the last time; of both files together, each byte once.

    Returns:
        In the order of the second file, then what was removed.

    Raises:
        FileDamagedError: A segment does not hash to its name; says of which tensor.
        FileMissingError: A segment is gone; says the same.
    """
    old = {} if before is None else {own.name: own for own in before.tensors}
    new = {} if after is None else {own.name: own for own in after.tensors}
    if before is None or after is None:
        pairs: list[tuple[Tensor | None, Tensor | None]] = [(None, own) for own in new.values()] + [(own, None) for own in old.values()]
        return [_note_alone(path, *pair, on_bytes) for pair in pairs]
    renamed = _match_renamed(before, after, old.keys() - new.keys(), new.keys() - old.keys())
    changes = []
    for name, own in new.items():
        was = old.get(name) or renamed.get(name)
        changes.append(_note_alone(path, None, own, on_bytes) if was is None else _compare(path, before, was, after, own, on_bytes))
    gone = {own.name for own in renamed.values()} | new.keys()
    return changes + [_note_alone(path, own, None, on_bytes) for name, own in old.items() if name not in gone]


def _note_alone(path: str, was: Tensor | None, own: Tensor | None, on_bytes: OnBytes) -> TensorChange:
    """Say that one version has no such tensor."""
    (tensor,) = (side for side in (was, own) if side is not None)
    on_bytes(tensor.nbytes)
    if was is None:
        return TensorChange(path, tensor.name, "added", None, _describe(tensor))
    return TensorChange(path, tensor.name, "removed", _describe(tensor), None)


def _compare(path: str, before: Located, was: Tensor, after: Located, own: Tensor, on_bytes: OnBytes) -> TensorChange:
    sides = (_describe(was), _describe(own))
    if (was.dtype, was.shape) == (own.dtype, own.shape):
        distance = None if was.name != own.name else _measure(before, was, after, own, on_bytes)
        change: Change = "renamed" if was.name != own.name else "same" if distance is None else "changed"
        if change == "renamed":
            on_bytes(was.nbytes + own.nbytes)
        return TensorChange(path, own.name, change, *sides, same_bytes=distance is None, distance=distance)
    same = was.nbytes == own.nbytes and _hash(before, was) == _hash(after, own)
    on_bytes(was.nbytes + own.nbytes)
    return TensorChange(path, own.name, "retyped" if was.dtype != own.dtype else "reshaped", *sides, same_bytes=same)


def _measure(before: Located, was: Tensor, after: Located, own: Tensor, on_bytes: OnBytes) -> Distance | None:
    """Give how far two tensors of one type and shape lie apart; None where every byte is the same."""
    pairs = list(zip(before.file.list_stretches(was), after.file.list_stretches(own), strict=True))
    if all(_is_same(*pair) for pair in pairs):
        on_bytes(was.nbytes + own.nbytes)
        return None
    added = Distances(was.dtype)
    for one, other in pairs:
        first = before.read(was, one)
        # A segment both have is read once, for the norms need it.
        added.add(first, first if _is_same(one, other) else after.read(own, other))
        on_bytes(one.nbytes + other.nbytes)
    found = added.finish()
    return found if found.changed else None


def _is_same(one: Stretch, other: Stretch) -> bool:
    return one.sha256 is not None and one.sha256 == other.sha256


def _match_renamed(before: Located, after: Located, removed: Iterable[str], added: Iterable[str]) -> Mapping[str, Tensor]:
    """
    Give by its new name every tensor that is there under another one.

    Its bytes, type and shape are of one removed and one added tensor only: of several zeros nobody knows which became which.
    """
    names = set(removed), set(added)
    kinds = [
        {(own.dtype, own.shape) for own in located.tensors if own.name in wanted}
        for located, wanted in zip((before, after), names, strict=True)
    ]
    shared = kinds[0] & kinds[1]  # nothing else needs to be read
    found = []
    for located, wanted in zip((before, after), names, strict=True):
        keyed = [
            ((own.dtype, own.shape, _hash(located, own)), own)
            for own in located.tensors
            if own.name in wanted and (own.dtype, own.shape) in shared
        ]
        counts = Counter(key for key, _ in keyed)
        found.append({key: own for key, own in keyed if counts[key] == 1})
    return {own.name: found[0][key] for key, own in found[1].items() if key in found[0]}


def _hash(located: Located, tensor: Tensor) -> bytes:
    """Give a name for a tensor's bytes: the same as another's of as many bytes only if they are the same."""
    digest = hashlib.sha256()
    for stretch in located.file.list_stretches(tensor):
        digest.update(stretch.sha256 or hashlib.sha256(located.read(tensor, stretch)).digest())
    return digest.digest()


def _describe(tensor: Tensor) -> TensorSide:
    return TensorSide(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes)
