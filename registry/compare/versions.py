"""Two versions side by side: what is said of them, their files, graphs and tensors."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lastgood.registry.compare.graph import GraphChanges, compare_graphs
from lastgood.registry.compare.lines import Line, compare_lines
from lastgood.registry.compare.outline import Outline, read_outline
from lastgood.registry.compare.tensors import Located, TensorChange, compare_tensors
from lastgood.registry.content import Content, FileEntry
from lastgood.registry.materialize import naming
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.registry.store.locate.by_name import Files
from lastgood.registry.store.stored_file import StoredFile

OnPart = Callable[[float], None]
_ONNX: Final = ".onnx"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file's bytes in each version; None where it has none."""

    path: str
    bytes_before: int | None
    bytes_after: int | None
    same: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that is known of two versions without running them; equal things too."""

    before: Version
    after: Version
    lines: list[Line]
    files: list[FileChange]
    graphs: list[GraphChanges]
    tensors: list[TensorChange]

    @property
    def differs(self) -> bool:
        """Whether anything is not the same."""
        return any(line.differs for line in self.lines)

    def without_equal(self) -> "Comparison":
        """Give what differs alone."""
        return Comparison(
            self.before,
            self.after,
            [own for own in self.lines if own.differs],
            [own for own in self.files if not own.same],
            [own.without_equal() for own in self.graphs if own.differs],
            [own for own in self.tensors if own.change != "same"],
        )


@dataclass(frozen=True, slots=True)
class _Side:
    """One version's files."""

    digest: str
    content: Content
    files: Mapping[str, StoredFile]
    located: Files


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two files that are one to the reader, in the first version and in the second."""

    path: str
    before: FileEntry | None
    after: FileEntry | None


def compare_versions(registry: Registry, before: Version, after: Version, on_part: OnPart | None = None) -> Comparison:
    """
    Compare two versions, of one model or of two.

    Files of one path belong together, and so do the two models whatever they are called. Golden examples and the drift
    reference are compared as files only: they are no part of the model. Tensors of files that are equal are listed
    nowhere: all of them are the same.

    Args:
        registry: Where both are.
        before: One version.
        after: The other.
        on_part: Is told which part of the tensors' bytes was dealt with, 0 to 1.

    Raises:
        IntegrityError: A stored file is gone or damaged; says which, and in which tensor.
    """
    lines = compare_lines(registry, before, after)
    contents = registry.content(before.digest), registry.content(after.digest)
    pairs = list(_pair_files(*contents))
    files = [_compare_file(pair) for pair in pairs]
    apart = [pair for pair in pairs if _is_apart(pair) and pair.path not in _list_references(*contents)]
    graphs: list[GraphChanges] = []
    tensors: list[TensorChange] = []
    if apart:
        sides = _open_side(registry, before, contents[0]), _open_side(registry, after, contents[1])
        graphs, tensors = _compare_inside(apart, *sides, on_part)
    return Comparison(before, after, lines, files, graphs, tensors)


def _compare_inside(
    pairs: list[_Pair], before: _Side, after: _Side, on_part: OnPart | None
) -> tuple[list[GraphChanges], list[TensorChange]]:
    located = [
        [_locate(side, entry, pair.path) for pair in pairs if (entry := getattr(pair, name)) is not None]
        for side, name in ((before, "before"), (after, "after"))
    ]
    total = max(1, sum(tensor.nbytes for own in (*located[0], *located[1]) for tensor in own.tensors))
    done = 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if on_part is not None:
            on_part(min(1.0, done / total))

    tensors = compare_tensors(located[0], located[1], count)
    compared = frozenset(own.name for own in tensors if own.before is not None and own.after is not None)
    graphs = []
    for pair in pairs:
        is_model = pair.after is not None and (pair.path.lower().endswith(_ONNX) or pair.path == after.content.model)
        if is_model and pair.before is not None and pair.after is not None:
            graphs.append(compare_graphs(pair.path, _outline(before, pair.before), _outline(after, pair.after), compared))
    return graphs, tensors


def _outline(side: _Side, entry: FileEntry) -> Outline:
    with naming(side.digest, entry.path):
        return read_outline(side.files[entry.path].outline())


def _pair_files(before: Content, after: Content) -> Iterator[_Pair]:
    old, new = ({entry.path: entry for entry in content.files} for content in (before, after))
    models = {after.model: before.model} if before.model not in new and after.model not in old else {}
    paths = {path: models.get(path, path) for path in new}
    for path, was in paths.items():
        yield _Pair(path, old.get(was), new[path])
    for path in old.keys() - set(paths.values()):
        yield _Pair(path, old[path], None)


def _compare_file(pair: _Pair) -> FileChange:
    before, after = (None if own is None else own.size for own in (pair.before, pair.after))
    return FileChange(pair.path, before, after, not _is_apart(pair))


def _is_apart(pair: _Pair) -> bool:
    return pair.before is None or pair.after is None or pair.before.sha256 != pair.after.sha256


def _list_references(*contents: Content) -> set[str]:
    found = {content.drift for content in contents} | {content.golden.file for content in contents if content.golden is not None}
    return {path for path in found if path is not None}


def _open_side(registry: Registry, version: Version, content: Content) -> _Side:
    files = registry.open_files(version.digest)
    return _Side(version.digest, content, files, Files({path: file.outline() for path, file in files.items()}))


def _locate(side: _Side, entry: FileEntry, pair: str) -> Located:
    with naming(side.digest, entry.path):
        return Located(side.digest, entry.path, pair, side.files[entry.path], tuple(side.located.locate(entry.path)))
