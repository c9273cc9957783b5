"""What is said of two versions: content, record and metrics, line by line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lastgood.registry.content import Content, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that both versions may say something about; None where one says nothing."""

    part: str  # content, files, inputs, outputs, record, parameters, metrics, libraries
    name: str
    before: Any
    after: Any

    @property
    def differs(self) -> bool:
        """Whether the two say different things."""
        # As JSON: to Python, True equals 1.
        return json.dumps(self.before, sort_keys=True) != json.dumps(self.after, sort_keys=True)


def compare_lines(registry: Registry, before: Version, after: Version) -> list[Line]:
    """Give every line of the comparison, equal ones too, content first."""
    lines = [Line("content", "digest", before.digest, after.digest)]
    lines += _compare_contents(registry.content(before.digest), registry.content(after.digest))
    lines += _compare_records(registry.record(before.digest, model=before.model), registry.record(after.digest, model=after.model))
    return lines


def _compare_contents(before: Content, after: Content) -> Iterator[Line]:
    yield Line("content", "batching", before.batching, after.batching)
    yield from _compare_maps("files", _files(before), _files(after))
    yield from _compare_maps("inputs", _tensors(before.inputs), _tensors(after.inputs))
    yield from _compare_maps("outputs", _tensors(before.outputs), _tensors(after.outputs))


def _compare_records(before: Record, after: Record) -> Iterator[Line]:
    nested = ("parameters", "metrics", "libraries")
    for item in fields(Record):
        if item.name not in nested:
            yield Line("record", item.name, getattr(before, item.name), getattr(after, item.name))
    for name in nested:
        yield from _compare_maps(name, getattr(before, name), getattr(after, name))


def _compare_maps(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Line]:
    for name in [*before, *(name for name in after if name not in before)]:
        yield Line(part, name, before.get(name), after.get(name))


def _files(content: Content) -> dict[str, str]:
    return {entry.path: f"{entry.size} bytes, {entry.sha256[:12]}" for entry in content.files}


def _tensors(specs: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {spec.name: f"{spec.datatype} {list(spec.shape)}" for spec in specs}
