"""Two ONNX graphs side by side: operators, nodes, initializers, operator sets."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from lastgood.registry.compare.outline import Node, Outline

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changed:
    """Something of a graph that is not the same in both: what each says of it, None where one has no such thing."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class OperatorCount:
    """How many nodes of one operator each graph has; the default domain is empty."""

    domain: str
    operator: str
    before: int
    after: int

    @property
    def title(self) -> str:
        """Give the operator, with its domain where that is not the default one."""
        return f"{self.domain}:{self.operator}" if self.domain else self.operator


@dataclass(frozen=True, slots=True)
class GraphChanges:
    """
    Two models' graphs, those in attributes and functions too.

    Attributes:
        path: The file; the second version's where they differ.
        operators: Every operator of either one, by domain and name.
        opsets: Versions of operator sets, and of the format, that are not the same.
        nodes: Added, removed, or with another operator, inputs, outputs or attributes. A node is known by its name, or by
            its first output where it has none.
        initializers: Added, removed, of another type or shape, or with other values that are not compared as a tensor's:
            those are in lists of numbers, or of a type without a name.
        problems: What could not be read, a sentence each.
    """

    path: str
    operators: tuple[OperatorCount, ...]
    opsets: tuple[Changed, ...]
    nodes: tuple[Changed, ...]
    initializers: tuple[Changed, ...]
    problems: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether anything but the values of tensors is different, or unknown."""
        return any((self.opsets, self.nodes, self.initializers, self.problems))

    def without_equal(self) -> "GraphChanges":
        """Give it without the operators of which both have as many."""
        return replace(self, operators=tuple(own for own in self.operators if own.before != own.after))


def compare_graphs(path: str, before: Outline, after: Outline, compared: frozenset[str]) -> GraphChanges:
    """
    Compare two graphs.

    Args:
        path: What to call the file.
        before: The first.
        after: The second.
        compared: Names of tensors that are compared elsewhere.
    """
    counts = [Counter((node.domain, node.operator) for node in own.nodes.values()) for own in (before, after)]

    def tell_initializers(name: str) -> tuple[str, str] | None:
        own, other = before.initializers[name], after.initializers[name]
        if str(own) != str(other):
            return str(own), str(other)
        if name in compared or (was := before.hash_values(own)) == (now := after.hash_values(other)):
            return None
        return f"{own}, values {was[:12]}", f"{other}, values {now[:12]}"

    def tell_nodes(name: str) -> tuple[str, str] | None:
        return _tell_apart(before.nodes[name], after.nodes[name])

    def tell_opsets(name: str) -> tuple[str, str] | None:
        pair = str(before.opsets[name]), str(after.opsets[name])
        return pair if pair[0] != pair[1] else None

    return GraphChanges(
        path=path,
        operators=tuple(OperatorCount(*kind, counts[0][kind], counts[1][kind]) for kind in sorted(counts[0].keys() | counts[1].keys())),
        opsets=_list_changes(before.opsets, after.opsets, str, tell_opsets),
        nodes=_list_changes(before.nodes, after.nodes, lambda node: node.title, tell_nodes),
        initializers=_list_changes(before.initializers, after.initializers, str, tell_initializers),
        problems=tuple(f"{own.problem} ({which} version)" for which, own in (("first", before), ("second", after)) if own.problem),
    )


def _list_changes(
    before: Mapping[str, T], after: Mapping[str, T], describe: Callable[[T], str], tell: Callable[[str], tuple[str, str] | None]
) -> tuple[Changed, ...]:
    """Give what was removed, what is not the same, and what was added; `tell` says what two differ in."""
    changes = []
    for name, own in before.items():
        if name not in after:
            changes.append(Changed(name, describe(own), None))
        elif (told := tell(name)) is not None:
            changes.append(Changed(name, *told))
    return (*changes, *(Changed(name, None, describe(own)) for name, own in after.items() if name not in before))


def _tell_apart(before: Node, after: Node) -> tuple[str, str] | None:
    """Say of two nodes what is not the same."""
    texts: list[tuple[str, str]] = []
    if before.title != after.title:
        texts.append((before.title, after.title))
    for what, names, others in (("inputs", before.inputs, after.inputs), ("outputs", before.outputs, after.outputs)):
        if names != others:
            texts.append((f"{what} {', '.join(names)}", f"{what} {', '.join(others)}"))
    for name in dict.fromkeys((*before.attributes, *after.attributes)):
        values = [own.attributes.get(name) for own in (before, after)]
        if values[0] != values[1]:
            shown = [f"no {name}" if value is None else f"{name} {value}" for value in values]
            texts.append((shown[0], shown[1]))
    if not texts:
        return None
    return "; ".join(own for own, _ in texts), "; ".join(other for _, other in texts)
