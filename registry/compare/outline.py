"""
What an ONNX model's graph is made of, read field by field: no tensor is loaded, no other file opened.

Source: onnx.proto, ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, FunctionProto.
"""

import hashlib
import struct
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from lastgood.registry.store.layout import Source
from lastgood.registry.store.locate.bounds import NAME_CHARS_MAX, RANK_MAX
from lastgood.registry.store.locate.window import UnreadableError, Window
from lastgood.registry.store.locate.wire import FIXED32, LENGTH, VARINT, Field, iterate_fields, read_signed, read_varints

_DEPTH_MAX: Final = 32  # graphs in attributes of nodes of graphs …
_NODES_MAX: Final = 200_000
_SHOWN_MAX: Final = 16  # numbers of an attribute that are shown as they are
_TEXT_BYTES_MAX: Final = 40  # the same of a text
_HASHED_BYTES: Final = 1 << 20  # read at once
# TensorProto.DataType, from 0.
_TYPES: Final = (
    *("UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE", "UINT32"),
    *("UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    *("UINT4", "INT4", "FLOAT4E2M1"),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One node; attributes by name are their values where those are short, else the start of a SHA-256."""

    domain: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, str]

    @property
    def title(self) -> str:
        """Give the operator, with its domain where that is not the default one."""
        return f"{self.domain}:{self.operator}" if self.domain else self.operator


@dataclass(frozen=True, slots=True)
class Initializer:
    """A constant of the graph: type and shape, and where in the file its values lie, if they do."""

    datatype: str
    shape: tuple[int, ...]
    values: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        """Give type and shape."""
        return f"{self.datatype} {list(self.shape)}"


@dataclass(slots=True)
class Outline:
    """A model's nodes and initializers by name, inner ones below the name of their node, and versions of operator sets."""

    model: Source
    nodes: dict[str, Node] = field(default_factory=dict)
    initializers: dict[str, Initializer] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    problem: str = ""  # why not all of it could be read, a sentence

    def hash_values(self, initializer: Initializer) -> str:
        """Give the SHA-256 of an initializer's values as they are written."""
        digest = hashlib.sha256()
        for begin, end in initializer.values:
            for at in range(begin, end, _HASHED_BYTES):
                digest.update(self.model.read_at(at, min(_HASHED_BYTES, end - at)))
        return digest.hexdigest()


def read_outline(model: Source) -> Outline:
    """Read a model; what cannot be read any further is left out, and `Outline.problem` says so."""
    outline = Outline(model)
    try:
        _Reader(model, outline).read_model()
    except UnreadableError as exc:
        outline.problem = f"only a part of the graph can be read ({exc}); the rest is not compared."
    return outline


class _Reader:
    """One walk through a model."""

    def __init__(self, model: Source, outline: Outline) -> None:
        self._window = Window(model)
        self._outline = outline
        self._counts: dict[str, int] = {}  # of nodes or initializers that have one name

    def read_model(self) -> None:
        """Read it into the outline; `UnreadableError` where it ends too early."""
        for found in iterate_fields(self._window, 0, self._window.size):
            if found.number == 1 and found.wire == VARINT:
                self._outline.opsets["IR version"] = read_signed(found.value)
            elif found.wire != LENGTH:
                continue
            elif found.number == 7:
                self._read_graph(found, "", 0)
            elif found.number == 8:
                self._read_opset(found, "")
            elif found.number == 20:
                for part in self._list_parts(found):
                    if part.number in {1, 2}:
                        self._read_graph(part, "initialization/" if part.number == 1 else "training/", 0)
            elif found.number == 25:
                self._read_function(found)

    def _read_opset(self, message: Field, prefix: str) -> None:
        domain, version = "", 0
        for found in iterate_fields(self._window, message.begin, message.end):
            if found.number == 1 and found.wire == LENGTH:
                domain = self._read_text(found)
            elif found.number == 2 and found.wire == VARINT:
                version = read_signed(found.value)
        self._outline.opsets[f"{prefix}opset {domain or 'ai.onnx'}"] = version

    def _read_function(self, message: Field) -> None:
        parts = self._list_parts(message)
        texts = {found.number: self._read_text(found) for found in parts if found.number in {1, 10, 13}}
        prefix = f"function {':'.join(texts[number] for number in (10, 1, 13) if texts.get(number))}/"
        for found in parts:
            if found.number == 7:
                self._read_node(found, prefix, 0)
            elif found.number == 9:
                self._read_opset(found, prefix)

    def _read_graph(self, message: Field, prefix: str, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise UnreadableError(f"graphs lie inside more than {_DEPTH_MAX} others")
        for found in iterate_fields(self._window, message.begin, message.end):
            if found.wire == LENGTH and found.number == 1:
                self._read_node(found, prefix, depth)
            elif found.wire == LENGTH and found.number == 5:
                self._read_initializer(found, prefix)
            elif found.wire == LENGTH and found.number == 15:
                self._read_sparse(found, prefix)

    def _read_node(self, message: Field, prefix: str, depth: int) -> None:
        if len(self._outline.nodes) >= _NODES_MAX:
            raise UnreadableError(f"more than {_NODES_MAX} nodes")
        parts = self._list_parts(message)
        inputs, outputs, names, operators, domains = (
            tuple(self._read_text(found) for found in parts if found.number == number) for number in (1, 2, 3, 4, 7)
        )
        domain = domains[-1] if domains and domains[-1] != "ai.onnx" else ""
        own = names[-1] if names and names[-1] else f"({next((output for output in outputs if output), 'without a name')})"
        name = self._name_apart(f"{prefix}{own}", self._outline.nodes)
        attributes: dict[str, str] = {}
        # Put there before the graphs in its attributes are read, so that a node comes before those inside of it.
        self._outline.nodes[name] = Node(domain, operators[-1] if operators else "", inputs, outputs, attributes)
        for found in parts:
            if found.number == 5:
                self._read_attribute(found, attributes, name, depth)

    def _read_attribute(self, message: Field, attributes: dict[str, str], node: str, depth: int) -> None:
        name, shown, graphs = "", list[str](), list[Field]()
        for found in iterate_fields(self._window, message.begin, message.end):
            if found.number == 1 and found.wire == LENGTH:
                name = self._read_text(found)
            elif found.number in {6, 11} and found.wire == LENGTH:
                graphs.append(found)
            elif found.number in {13, 20}:  # what is said about it, and its type
                continue
            elif len(shown) <= _SHOWN_MAX:
                shown.append(self._show(found))
            else:
                break  # a list of very many numbers; names come before them
        if graphs:  # their nodes are compared one by one
            attributes[name] = "graph" if len(graphs) == 1 else f"{len(graphs)} graphs"
            for index, graph in enumerate(graphs):
                self._read_graph(graph, f"{node}/{name}{f'[{index}]' if index else ''}/", depth + 1)
        elif len(shown) > _SHOWN_MAX or not all(shown):
            attributes[name] = self._outline.hash_values(Initializer("", (), ((message.begin, message.end),)))[:12]
        else:
            attributes[name] = ", ".join(shown)

    def _show(self, found: Field) -> str:
        """Give a value of an attribute as a text; nothing where that would be long."""
        length = found.end - found.begin
        if found.number == 2 and found.wire == FIXED32:
            return f"{struct.unpack('<f', self._window.read(found.begin, 4))[0]:.9g}"
        if found.number in {3, 8} and (found.wire == VARINT or (found.wire == LENGTH and length <= _SHOWN_MAX)):
            return ", ".join(str(read_signed(value)) for value in read_varints(self._window, found, count_max=_SHOWN_MAX))
        if found.number == 4 and found.wire == LENGTH and length <= _TEXT_BYTES_MAX:
            return repr(self._read_text(found))
        return ""

    def _read_initializer(self, message: Field, prefix: str) -> None:
        name, number, dims, values = "", 0, list[int](), list[tuple[int, int]]()
        for found in iterate_fields(self._window, message.begin, message.end):
            if found.number == 1:
                dims.extend(map(read_signed, read_varints(self._window, found, count_max=RANK_MAX)))
            elif found.number == 2 and found.wire == VARINT:
                number = found.value
            elif found.number == 8 and found.wire == LENGTH:
                name = self._read_text(found)
            elif found.number in {4, 5, 6, 7, 9, 10, 11}:
                values.append((found.begin, found.end))
        kind = _TYPES[number] if number < len(_TYPES) else f"type {number}"
        self._add_initializer(f"{prefix}{name}", Initializer(kind, tuple(dims), tuple(values)))

    def _read_sparse(self, message: Field, prefix: str) -> None:
        """Read an initializer of which only some places have values, which carry its name."""
        name, dims = "", list[int]()
        for found in iterate_fields(self._window, message.begin, message.end):
            if found.number == 1 and found.wire == LENGTH:
                name = next((self._read_text(part) for part in self._list_parts(found) if part.number == 8), "")
            elif found.number == 3:
                dims.extend(map(read_signed, read_varints(self._window, found, count_max=RANK_MAX)))
        self._add_initializer(f"{prefix}{name}", Initializer("sparse", tuple(dims), ((message.begin, message.end),)))

    def _add_initializer(self, name: str, initializer: Initializer) -> None:
        self._outline.initializers[self._name_apart(name, self._outline.initializers)] = initializer

    def _list_parts(self, message: Field) -> list[Field]:
        """Give the fields of a message that have a length."""
        return [found for found in iterate_fields(self._window, message.begin, message.end) if found.wire == LENGTH]

    def _read_text(self, found: Field) -> str:
        count = min(found.end - found.begin, 4 * NAME_CHARS_MAX)
        self._window.charge(count)  # it is kept
        return self._window.read(found.begin, count).decode(errors="replace")

    def _name_apart(self, name: str, taken: Container[str]) -> str:
        own = name
        while own in taken:
            self._counts[name] = self._counts.get(name, 1) + 1
            own = f"{name}#{self._counts[name]}"
        return own
