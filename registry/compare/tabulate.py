"""A comparison of two versions as tables, for a terminal and a page alike."""

from collections.abc import Iterator

from lastgood.registry.compare.distance import Distance
from lastgood.registry.compare.graph import GraphChanges
from lastgood.registry.compare.tensors import TensorChange
from lastgood.registry.compare.versions import Comparison
from lastgood.render import Table


def tabulate(comparison: Comparison) -> list[Table]:
    """Give what is said of both, their files, graphs and tensors, a table each; one with nothing in it is left out."""
    left, right = str(comparison.before), str(comparison.after)
    lines = [own for own in comparison.lines if own.part != "files"]  # they have a table of their own
    tables = [
        Table(
            f"{left} and {right}",
            ("part", "name", left, right),
            tuple((own.part, own.name, *("" if value is None else str(value) for value in (own.before, own.after))) for own in lines),
        ),
        Table(
            "Files",
            ("file", f"bytes of {left}", f"bytes of {right}", "change"),
            tuple(
                (own.path, _show(own.bytes_before), _show(own.bytes_after), _show_growth(own.bytes_before, own.bytes_after, same=own.same))
                for own in comparison.files
            ),
        ),
    ]
    for graph in comparison.graphs:
        tables += _tabulate_graph(graph, left, right)
    columns = ("tensor", "change", "type and shape", "bytes", "L2", "relative", "cosine", "changed", "")
    several = len({own.path for own in comparison.tensors}) > 1
    tables.append(Table("Tensors", columns, tuple(tuple(_list_tensor(own, several=several)) for own in comparison.tensors)))
    return [table for table in tables if table.rows]


def _tabulate_graph(graph: GraphChanges, left: str, right: str) -> Iterator[Table]:
    operators = tuple((own.title, str(own.before), str(own.after), f"{own.after - own.before:+d}") for own in graph.operators)
    yield Table(f"Operators of {graph.path}", ("operator", left, right, "change"), operators)
    parts = {"operator set": graph.opsets, "node": graph.nodes, "initializer": graph.initializers}
    changes = [(what, own.name, own.before or "-", own.after or "-") for what, listed in parts.items() for own in listed]
    changes += [("problem", problem, "", "") for problem in graph.problems]
    yield Table(f"Graph of {graph.path}", ("graph", "name", left, right), tuple(changes))


def _list_tensor(own: TensorChange, *, several: bool) -> Iterator[str]:
    sides = [side for side in (own.before, own.after) if side is not None]
    yield from (f"{own.path}: {own.name}" if several else own.name, own.change)
    yield " → ".join(dict.fromkeys(map(str, sides)))
    yield " → ".join(dict.fromkeys(f"{side.nbytes:,}" for side in sides))
    found = own.distance
    if found is None:
        yield from ("", "", "", "")
    else:
        yield from (f"{value:.4g}" if value is not None else "none" for value in (found.l2, found.l2_relative, found.cosine))
        yield f"{found.changed_ratio:.2%}"
    yield _explain(own)


def _explain(own: TensorChange) -> str:
    if own.change in {"renamed", "moved"} and own.before is not None:
        return f"was {own.before.name}" if own.change == "renamed" else f"was in {own.before.path}"
    if own.change in {"reshaped", "retyped"}:
        return "the same bytes" if own.same_bytes else "not compared by value"
    return "" if own.distance is None else _count_unusual(own.distance)


def _count_unusual(found: Distance) -> str:
    """Say what was left out of the distances."""
    pairs = {"NaN": (found.nan_before, found.nan_after), "infinite": (found.infinite_before, found.infinite_after)}
    said = [f"{what}: {before:,} and {after:,}" for what, (before, after) in pairs.items() if before or after]
    return f"{'; '.join(said)}; left out of the distances" if said else ""


def _show(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _show_growth(before: int | None, after: int | None, *, same: bool) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    return "same" if same else f"{after - before:+,d}"
