"""Files as questions: what a person writes becomes what the model takes, or a sentence that names what is wrong."""

import contextlib
import json
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from lastgood.errors import UsageError
from lastgood.serving.client import files, images
from lastgood.serving.client.answers import check_place, write_arrays
from lastgood.serving.client.conversions import convert
from lastgood.serving.client.files import Question, check_file, read_file
from lastgood.serving.client.images import find_layout, read_image
from lastgood.tensors import DATATYPES, TensorSpec

Array = np.ndarray[Any, Any]
X = TensorSpec("x", "FP32", (-1, 3))
GRAY = TensorSpec("image", "FP32", (-1, 8, 8, 1))


def read(path: Path, *specs: TensorSpec) -> Question:
    """Check and read a file as the command does."""
    check_file(path)
    return read_file(path, specs)


def save(path: Path, **arrays: Array) -> Path:
    """Write an .npz."""
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def write(path: Path, value: Any) -> Path:
    """Write a JSON file."""
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def test_arrays_by_name_become_the_models_types(tmp_path: Path) -> None:
    """Types that numpy gives by itself need no thought; a lone array needs no name, and a lone row no batch."""
    specs = TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "UINT8", (-1,)), TensorSpec("c", "BYTES", (-1,))
    path = save(tmp_path / "a.npz", a=np.array([[0.1, 2]]), b=np.array([255]), c=np.array(["ü"]))
    question = read(path, *specs)
    assert {"a": "float32", "b": "uint8"} == {name: str(question.inputs[name].dtype) for name in "ab"}
    assert ([255], ["ü"], ()) == (question.inputs["b"].tolist(), question.inputs["c"].tolist(), question.notes)
    question = read(save(tmp_path / "b.npz", whatever=np.array([1, 2, 3])), X)
    assert [[1.0, 2.0, 3.0]] == question.inputs["x"].tolist()
    assert ("x was taken as one row: it is sent as [1, 3].",) == question.notes


def test_json_is_inputs_a_list_or_a_whole_request(tmp_path: Path) -> None:
    """A request goes as it is; an input that is called ``inputs`` is still an input."""
    path = tmp_path / "a.json"
    assert [[1.0, 2.0, 3.0]] == read(write(path, {"x": [[1, 2, 3]]}), X).inputs["x"].tolist()
    assert [[1.0, 2.0, 3.0]] == read(write(path, [1, 2, 3]), X).inputs["x"].tolist()
    request = {"id": "a", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}], "outputs": [{"name": "y"}]}
    assert request == read(write(path, request), X).request
    question = read(write(path, {"inputs": [[1, 2, 3]]}), TensorSpec("inputs", "FP32", (-1, 3)))
    assert (None, [[1.0, 2.0, 3.0]]) == (question.request, question.inputs["inputs"].tolist())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "no readable JSON"),
        ("[NaN, 1, 2]", "NaN and infinity are not JSON"),
        ("[" * 100_000, "no readable JSON"),
        ("7", "holds a int; expected an object"),
        ({}, r"has nothing; the model takes 'x' \(FP32 \[-1, 3\]\)"),
        ({"y": [1]}, "has 'y'; the model takes"),
        ({"x": [[1, 2, 3], [4]]}, "lists of one length"),
        ({"x": ["a", "b", "c"]}, "expected numbers for FP32"),
        ({"x": [None, 1, 2]}, "expected numbers for FP32"),
        ({"x": [10**40, 1, 2]}, "expected numbers"),
        ({"x": [1e39, 1, 2]}, "holds 1e[+]39, which FP32 does not"),
    ],
)
def test_json_that_does_not_fit_is_a_sentence(tmp_path: Path, value: Any, words: str) -> None:
    """With the file or the input in it, and what was expected."""
    with pytest.raises(UsageError, match=words):
        read(write(tmp_path / "a.json", value), X)


def test_nothing_is_unpickled_or_unpacked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects, a small file that says it is large, one that is large and says it is small, and lies about a shape."""
    with pytest.raises(UsageError, match="Object arrays cannot be loaded"):
        read(save(tmp_path / "objects.npz", x=np.array([{}], object)), X)
    packed = save(tmp_path / "packed.npz", x=np.zeros((100_000, 1)))
    with monkeypatch.context() as smaller:
        smaller.setattr(files, "FILE_BYTES", 100_000)
        assert packed.stat().st_size < files.FILE_BYTES
        with pytest.raises(UsageError, match="unpacks to 800128 bytes; 100000 are allowed"):
            read(packed, X)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(UsageError, match="no readable"):
        read(tmp_path / "lies.npz", X)
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", b"hello")
    with pytest.raises(UsageError, match="no arrays"):
        read(tmp_path / "other.npz", X)
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    with pytest.raises(UsageError, match="12 bytes; 10 are allowed"):
        check_file(write(tmp_path / "large.json", "[1, 2, 3, 4]"))


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_file_is_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut or added anywhere in an .npz, a PNG or a JPEG: a question, or a sentence."""
    name = data.draw(st.sampled_from(["a.npz", "a.png", "a.jpg"]))
    whole = tmp_path / "whole" / name
    if not whole.exists():
        whole.parent.mkdir(exist_ok=True)
        if name == "a.npz":
            save(whole, x=np.arange(64.0).reshape(1, 8, 8, 1))
        else:
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(UsageError):
        assert read(tmp_path / name, GRAY).inputs["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone.npz", "There is no file"), ("a.txt", r"ends with '.txt'; expected one of: .npz, .json, .png"), ("d.png", "no file")],
)
def test_what_is_no_file_of_a_kind_is_told_before_anybody_is_asked(tmp_path: Path, name: str, words: str) -> None:
    """Not there, of another kind, a folder."""
    (tmp_path / "d.png").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match=words):
        check_file(tmp_path / name)


NUMERIC = [name for name in DATATYPES if name != "BYTES"]


@examples(max_examples=300)
@given(
    st.sampled_from(NUMERIC),
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda own: np.array(own, np.int64)),
        st.lists(st.integers(0, 2**64 - 1), max_size=4).map(lambda own: np.array(own, np.uint64)),
        st.lists(st.floats(width=16), max_size=4).map(lambda own: np.array(own, np.float16)),
        st.lists(st.one_of(st.floats(), st.integers(-300, 300).map(float)), max_size=4).map(lambda own: np.array(own, np.float64)),
        st.lists(st.booleans(), max_size=4).map(lambda own: np.array(own, np.bool_)),
    ),
)
def test_whole_numbers_stay_exactly_what_they_are_or_are_refused(datatype: str, array: Array) -> None:
    """Between all types; what is refused is refused rightly, judged by Python's own numbers."""
    dtype = DATATYPES[datatype]

    def fits(value: float) -> bool:
        if dtype.kind == "f":
            return not math.isfinite(value) or abs(int(value)) < 2 ** {2: 16, 4: 128, 8: 1024}[dtype.itemsize]
        if not math.isfinite(value) or value != int(value):
            return False
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return bool(low <= int(value) <= high)

    values = array.tolist()
    spec = TensorSpec("x", datatype, (-1,))
    if dtype.kind == "f" and any(math.isfinite(value) and abs(value) > 0.99 * float(np.finfo(dtype).max) for value in values):
        return  # rounding decides there
    if all(map(fits, values)):
        converted = convert(array, spec)
        assert dtype == converted.dtype
        if dtype.kind != "f":
            assert [int(value) for value in values] == [int(value) for value in converted.tolist()]
    else:
        with pytest.raises(UsageError, match=f"which {datatype} does not"):
            convert(array, spec)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((-1, 8, 8, 1), "bhwc"),
        ((-1, 1, 28, 28), "bchw"),
        ((1, 3, -1, -1), "bchw"),
        ((-1, -1, -1, 3), "bhwc"),
        ((3, 224, 224), "chw"),
        ((8, 8, 1), "hwc"),
        ((-1, 28, 28), "bhw"),
        ((1, 8, 8), "chw"),
    ],
)
def test_where_the_channels_are(shape: tuple[int, ...], axes: str) -> None:
    """By the sizes that the metadata gives."""
    assert axes == find_layout(TensorSpec("i", "UINT8", shape)).axes


@pytest.mark.parametrize(
    ("shape", "datatype", "words"),
    [
        ((-1, 64), "FP32", "is no image"),
        ((), "FP32", "is no image"),
        ((-1, 4, 8, 8), "FP32", "is no image"),
        ((-1, -1, 8, 8), "FP32", "is no image"),
        ((7, 8, 8, 1), "FP32", "is no image"),
        ((-1, 3, 9, 3), "FP32", "first or last"),
        ((-1, 8, 8, 1), "INT64", "scale of pixels is not known"),
        ((-1, 8, 8, 1), "BYTES", "scale of pixels is not known"),
    ],
)
def test_inputs_that_hold_no_image_are_named(shape: tuple[int, ...], datatype: str, words: str) -> None:
    """And what to do instead."""
    with pytest.raises(UsageError, match=rf"{words}.*Send an \.npz"):
        find_layout(TensorSpec("i", datatype, shape))


def test_an_image_of_the_digits_is_the_row_that_the_pipeline_trains_on(tmp_path: Path) -> None:
    """The same scale, the same axis of channels: a picture of a digit is the digit, to half a shade of 255."""
    digit = load_digits().images[3]
    Image.fromarray(np.round(digit / 16 * 255).astype(np.uint8)).save(tmp_path / "3.png")
    array, notes = read_image(tmp_path / "3.png", GRAY)
    assert ((1, 8, 8, 1), np.float32, ()) == (array.shape, array.dtype, notes)
    np.testing.assert_allclose(array[0, :, :, 0], digit / 16, atol=0.5 / 255 + 1e-6)


def test_shrinking_counts_areas_as_the_digits_were_made(tmp_path: Path) -> None:
    """32 by 32 dots become 8 by 8 shares of ink; the person is told."""
    dots = np.random.default_rng(5).integers(0, 2, (32, 32), np.uint8)
    Image.fromarray(dots * 255).save(tmp_path / "scan.png")
    array, notes = read_image(tmp_path / "scan.png", GRAY)
    assert ("scan.png is 32 by 32 pixels; it was resized to 8 by 8.",) == notes
    np.testing.assert_allclose(array[0, :, :, 0], dots.reshape(8, 4, 8, 4).mean(axis=(1, 3)), atol=1.01 / 255)


def test_colours_axes_types_and_sizes(tmp_path: Path) -> None:
    """RGB first and last, bytes and floats, any size kept, gray from colours and colours from gray."""
    colours = np.random.default_rng(6).integers(0, 256, (4, 6, 3), np.uint8)
    path = tmp_path / "c.png"
    Image.fromarray(colours).save(path)
    last, notes = read_image(path, TensorSpec("i", "UINT8", (-1, -1, -1, 3)))
    assert (colours[None].tolist(), np.uint8, ()) == (last.tolist(), last.dtype, notes)
    first, _ = read_image(path, TensorSpec("i", "FP16", (1, 3, -1, -1)))
    np.testing.assert_allclose(first, (colours.transpose(2, 0, 1)[None] / 255).astype(np.float16))
    assert np.float16 == first.dtype
    gray, notes = read_image(path, TensorSpec("i", "FP64", (-1, 4, 6)))
    luma = colours @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(gray[0], luma, atol=1.01 / 255)
    assert ("c.png has colours; the model takes shades of gray.",) == notes
    _, notes = read_image(path, TensorSpec("i", "FP32", (3, 8, 6)))
    assert ("c.png is 6 by 4 pixels; it was resized to 6 by 8, which changes its proportions.",) == notes
    Image.fromarray(colours[..., 0]).save(path)
    grown, _ = read_image(path, TensorSpec("i", "UINT8", (4, 6, 3)))
    assert np.repeat(colours[..., :1], 3, axis=2).tolist() == grown.tolist()
    Image.fromarray(colours[..., 0]).save(tmp_path / "c.JPG", "jpeg", quality=100, subsampling=0)
    photo, _ = read_image(tmp_path / "c.JPG", TensorSpec("i", "UINT8", (4, 6, 1)))
    assert np.abs(photo[..., 0].astype(int) - colours[..., 0]).max() <= 2


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    """As every viewer shows it."""
    image = Image.fromarray(np.array([[0] * 8, [255] * 8], np.uint8).repeat(8, axis=0))  # black above white
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    array, _ = read_image(tmp_path / "a.jpg", TensorSpec("i", "UINT8", (16, 8, 1)))
    assert (array[:6].min(), array[-6:].max()) == (255, 0)


def test_images_that_would_be_read_as_something_nobody_sees_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transparent, deep, moving, huge, cut off, of another kind than its name; an opaque one may have an alpha channel."""

    def refuse(name: str, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            read_image(tmp_path / name, GRAY)

    clear = np.full((8, 8, 4), 255, np.uint8)
    Image.fromarray(clear).save(tmp_path / "opaque.png")
    assert 1.0 == read_image(tmp_path / "opaque.png", GRAY)[0].min()
    clear[0, 0, 3] = 254
    Image.fromarray(clear).save(tmp_path / "clear.png")
    refuse("clear.png", "transparent pixels")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    refuse("deep.png", "more than 8 bits")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    refuse("moving.png", "animation")
    Image.new("L", (8, 8)).save(tmp_path / "other.png", "gif")
    refuse("other.png", "no readable PNG or JPEG")
    # 60,000 by 60,000 pixels in under a hundred bytes.
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(bomb + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    refuse("bomb.png", "no readable|are allowed")
    monkeypatch.setattr(images, "PIXELS", 63)
    refuse("opaque.png", "63 are allowed")


def test_an_image_is_for_models_with_one_input(tmp_path: Path) -> None:
    """Of several, nobody knows which."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="is one image, and the model takes 'image'"):
        read(tmp_path / "a.png", GRAY, X)


def test_written_answers_are_read_back_without_unpickling(tmp_path: Path) -> None:
    """Every type, texts too, under any name; the file is replaced whole, and nothing else is left."""
    arrays: dict[str, Array] = {name: np.ones((2, 1), dtype) for name, dtype in DATATYPES.items() if name != "BYTES"}
    arrays |= {"file": np.array([["ü", ""]], object), "a/b": np.zeros((0, 3), np.float32), "none": np.zeros((0,), object)}
    path = tmp_path / "a.npz"
    path.write_text("old")
    write_arrays(path, arrays)
    with np.load(path, allow_pickle=False) as found:
        assert sorted(arrays) == sorted(found.files)
        for name, array in arrays.items():
            assert (array.shape, array.tolist()) == (found[name].shape, found[name].tolist())
    with pytest.raises(UsageError, match="NUL"):
        write_arrays(path, {"x": np.array(["a\0"], object)})
    assert ["a.npz"] == [own.name for own in tmp_path.iterdir()]
    assert sorted(arrays) == sorted(np.load(path).files)


@pytest.mark.parametrize(("name", "words"), [("a.json", "expected .npz"), ("gone/a.npz", "no folder"), ("d.npz", "is a folder")])
def test_where_nothing_can_be_written_is_told_first(tmp_path: Path, name: str, words: str) -> None:
    """Before anybody is asked for an answer."""
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(UsageError, match=words):
        check_place(tmp_path / name)
