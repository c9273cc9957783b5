"""Content and its digest; paths that stay inside a version's folder."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import IntegrityError
from lastgood.registry.content import Content, FileEntry, Golden, check_path
from lastgood.tensors import DATATYPES, TensorSpec

NAMES = st.text("abc.xyz_-é", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})
SPECS = st.builds(TensorSpec, NAMES, st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(-1, 9), max_size=3).map(tuple[int, ...]))
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Any content with a model, perhaps with golden examples and a reference profile."""
    others = draw(st.lists(NAMES.map(lambda name: f"files/{name}"), max_size=3, unique=True))
    paths = sorted({"model.onnx", *others})
    entries = tuple(FileEntry(path, draw(st.integers(0, 2**40)), draw(SHA256)) for path in paths)
    golden = draw(st.none() | st.builds(Golden, st.sampled_from(paths), st.floats(0, 1), st.floats(0, 1)))
    drift = draw(st.none() | st.sampled_from(paths))
    specs = st.lists(SPECS, max_size=2).map(tuple[TensorSpec, ...])
    return Content(entries, draw(specs), draw(specs), draw(st.sampled_from([0, None])), golden, drift)


@given(contents())
def test_contents_come_back_equal_under_their_digest(content: Content) -> None:
    """What is written is read as it was, and has the same digest."""
    again = Content.from_bytes(content.to_bytes(), digest=content.digest)
    assert (content, content.digest) == (again, again.digest)


@given(contents(), contents())
def test_different_contents_have_different_digests(one: Content, other: Content) -> None:
    """Two contents share a digest only if they are equal."""
    assert (one == other) == (one.digest == other.digest)


@given(contents(), st.data())
def test_a_changed_byte_is_found(content: Content, draw: st.DataObject) -> None:
    """Any other bytes are refused under the digest."""
    data = bytearray(content.to_bytes())
    data[draw.draw(st.integers(0, len(data) - 1))] ^= 1
    with pytest.raises(IntegrityError, match="was changed"):
        Content.from_bytes(bytes(data), digest=content.digest)


def simple() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Content((FileEntry("model.onnx", 1, "a" * 64),), (), (), 0).to_bytes())
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"format": "lastgood/content/2"},
        {"files": []},
        {"files": [{"path": "model.onnx", "size": 1, "sha256": "a" * 64}] * 2},
        {"files": [{"path": "/model.onnx", "size": 1, "sha256": "a" * 64}]},
        {"files": [{"path": "model.onnx", "size": -1, "sha256": "a" * 64}]},
        {"files": [{"path": "model.onnx", "size": 1, "sha256": "a"}]},
        {"files": [{"path": "model.onnx", "size": 1, "sha256": "a" * 64}, {"path": "model.onnx/x", "size": 1, "sha256": "a" * 64}]},
        {"batching": 1},
        {"batching": False},
        {"golden": {"file": "nowhere", "rtol": 0, "atol": 0}},
        {"inputs": [{"name": "x", "datatype": "FP31", "shape": []}]},
        {"inputs": None},
        {"files": None},
    ],
    ids=str,
)
def test_what_is_no_content_is_refused(change: dict[str, Any]) -> None:
    """Other formats, unsafe paths, impossible sizes and dangling names are integrity errors, not crashes."""
    with pytest.raises(IntegrityError):
        Content.from_bytes(json.dumps(simple() | change).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """Anything but a content's JSON is an integrity error."""
    with pytest.raises(IntegrityError):
        Content.from_bytes(data)


def test_another_spelling_has_no_digest() -> None:
    """A content that hashes right but is not canonical, or says more than is read, would have two digests."""
    import hashlib

    for data in (json.dumps(simple()).encode(), json.dumps(simple() | {"extra": 1}, separators=(",", ":"), sort_keys=True).encode()):
        with pytest.raises(IntegrityError, match="canonical"):
            Content.from_bytes(data, digest=f"sha256:{hashlib.sha256(data).hexdigest()}")


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "/etc/passwd", "a/../b", "../a", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b", "\udcff", "x" * 256, "x/" * 600 + "x"],
)
def test_paths_that_could_leave_the_folder_are_refused(path: str) -> None:
    """Only plain relative paths name a version's files."""
    with pytest.raises(IntegrityError, match="no path inside"):
        check_path(path)
