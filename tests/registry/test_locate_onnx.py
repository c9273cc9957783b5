"""ONNX models: real ones with their weights inside and beside, and ones made to harm."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.locate.by_name import Files
from lastgood.registry.store.locate.by_name import locate as locate_file
from lastgood.registry.store.locate.onnx import is_plausible, locate, locate_external
from tests.registry.test_locate import Held, assert_located, assert_sound, make_arrays

LARGE = np.arange(400, dtype="<f4").reshape(20, 20)


def write(initializers: Any = ()) -> bytes:
    data: bytes = helper.make_model(helper.make_graph([], "graph", [], [], list(initializers))).SerializeToString()
    return data


def tensor(name: str = "a", array: Any = LARGE) -> Any:
    return numpy_helper.from_array(array, name)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_lists_of_floats_and_doubles_are_located() -> None:
    """Elements in float_data and double_data lie as they are; those in lists of varints do not."""
    values = list(range(50))
    proto = [
        helper.make_tensor("floats", TensorProto.FLOAT, [50], values),
        helper.make_tensor("doubles", TensorProto.DOUBLE, [5, 10], values),
        helper.make_tensor("halves", TensorProto.FLOAT16, [50], values),
        helper.make_tensor("integers", TensorProto.INT32, [50], values),
        helper.make_tensor("long", TensorProto.INT64, [50], values),
        helper.make_tensor("unsigned", TensorProto.UINT64, [50], values),
        helper.make_tensor("complex", TensorProto.COMPLEX64, [25], [complex(1, 2)] * 25),
        helper.make_tensor("texts", TensorProto.STRING, [2], ["a", "b"]),
    ]
    data = write(proto)
    assert_located(locate(Held(data)), data, {"floats": np.array(values, "<f4"), "doubles": np.array(values, "<f8").reshape(5, 10)})


def test_brain_floats_are_located_and_types_without_a_name_are_not() -> None:
    """BF16 is known; four bits and eight bits with a point are not."""
    kinds = {"BF16": (TensorProto.BFLOAT16, 8), "int4": (TensorProto.INT4, 2), "float8": (TensorProto.FLOAT8E4M3FN, 4)}
    data = write([helper.make_tensor(name, kind, [4], b"12345678"[:nbytes], raw=True) for name, (kind, nbytes) in kinds.items()])
    assert [("BF16", 8)] == [(found.name, found.nbytes) for found in locate(Held(data))]


def test_graphs_in_attributes_functions_training_and_constants_are_searched() -> None:
    """Initializers of the branches of If, branches in branches, and constants of nodes and functions are found."""
    arrays = {name: LARGE + number for number, name in enumerate(["inner", "then", "else", "constant", "function", "training", "outer"])}
    inner = helper.make_graph([], "inner", [], [], [tensor("inner", arrays["inner"])])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=helper.make_graph([], "none", [], []))
    then = helper.make_graph([branch], "then", [], [], [tensor("then", arrays["then"])])
    other = helper.make_graph([], "else", [], [], [tensor("else", arrays["else"])])
    nodes = [
        helper.make_node("If", ["c"], ["z"], then_branch=then, else_branch=other),
        helper.make_node("Constant", [], ["k"], value=tensor("constant", arrays["constant"])),
    ]
    body = [helper.make_node("Constant", [], ["f"], value=tensor("function", arrays["function"]))]
    function = helper.make_function("own", "F", [], ["f"], body, [helper.make_opsetid("", 20)])
    model = helper.make_model(helper.make_graph(nodes, "graph", [], [], [tensor("outer", arrays["outer"])]), functions=[function])
    model.training_info.add().algorithm.initializer.append(tensor("training", arrays["training"]))
    data = model.SerializeToString()
    assert_located(locate(Held(data)), data, arrays)


def test_sparse_initializers_are_left_out() -> None:
    """Their values are no tensor of the shape they stand for."""
    values = tensor("values", np.ones(50, "<f4"))
    sparse = helper.make_sparse_tensor(values, tensor("places", np.arange(50)), [1000])
    graph = helper.make_graph([], "graph", [], [], [tensor()], sparse_initializer=[sparse])
    data = helper.make_model(graph).SerializeToString()
    assert ["a"] == [found.name for found in locate(Held(data))]


def test_models_of_other_makers_are_plausible() -> None:
    """A model begins with its version, and where that is missing with another of its fields."""
    assert is_plausible(write())
    assert is_plausible(onnx.ModelProto(producer_name="x").SerializeToString())
    assert not is_plausible(b"")
    assert not is_plausible(b"PK\3\4")


@pytest.mark.parametrize("together", [True, False])
def test_tensors_in_files_beside_the_model_are_located(tmp_path: Path, *, together: bool) -> None:
    """External data, in one file or one for each tensor, is found in its files by the model that names them."""
    folder = tmp_path / "models"
    folder.mkdir()
    arrays = {name.replace("/", "."): array for name, array in make_arrays().items()}
    model = helper.make_model(helper.make_graph([], "graph", [], [], [tensor(name, array) for name, array in arrays.items()]))
    options = {"save_as_external_data": True, "all_tensors_to_one_file": together, "size_threshold": 100}
    onnx.save(model, folder / "m.onnx", location="weights.bin" if together else None, **options)
    files = {f"models/{path.name}": path.read_bytes() for path in folder.iterdir()}
    found: dict[str, Tensor] = {}
    for name, data in files.items():
        located = locate_file(name, Held(data), {other: Held(files[other]) for other in files if other != name})
        assert_located(located, data, {each.name: arrays[each.name] for each in located})
        found |= {each.name: each for each in located}
    assert {name for name, array in arrays.items() if array.nbytes} == set(found)
    assert (len(files) == 2) == together


def test_a_model_names_files_in_its_own_folder_only() -> None:
    """A file of the same name in another folder is not the model's."""
    data = write([external(location="sub/w")])
    weights = LARGE.tobytes()
    assert ["a"] == [found.name for found in locate_file("m/sub/w", Held(weights), {"m/x.onnx": Held(data)})]
    assert [] == locate_file("n/sub/w", Held(weights), {"m/x.onnx": Held(data)})
    assert [] == locate_file("sub/w", Held(weights), {"m/x.onnx": Held(data)})


def test_models_that_share_a_file_both_count() -> None:
    """What two models say of one file is put together, and what reaches beyond its end left out."""
    models = {"one.onnx": Held(write([external(location="w")])), "two.onnx": Held(write([external("b", location="w", offset=1600)]))}
    assert ["a", "b"] == [found.name for found in locate_file("w", Held(LARGE.tobytes() * 2), models)]
    assert ["a"] == [found.name for found in locate_file("w", Held(LARGE.tobytes() + b"x"), models)]


def test_of_many_models_the_one_a_file_is_named_after_is_read() -> None:
    """Not all of very many models are read, but those in the file's folder first, and of them the one of its name."""
    plain = Held(write())
    models = {f"m/{number}.onnx": plain for number in range(100)} | {"m/x.onnx": Held(write([external(location="x.onnx_data")]))}
    assert ["a"] == [found.name for found in locate_file("m/x.onnx_data", Held(LARGE.tobytes()), models)]
    assert plain.reads < 50


def test_a_model_is_read_once_for_all_files_beside_it() -> None:
    """A version of one model and very many data files does not cost a walk through the model for each."""
    model = Held(write([external(str(number), location=f"w{number}") for number in range(100)]))
    files = Files({"x.onnx": model, **{f"w{number}": Held(LARGE.tobytes()) for number in range(100)}})
    for number in range(100):
        assert [str(number)] == [found.name for found in files.locate(f"w{number}")]
    assert model.reads < 50


def external(name: str = "a", **places: Any) -> Any:
    proto = TensorProto(name=name, dims=[20, 20], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in places.items():
        entry = proto.external_data.add()
        entry.key, entry.value = key, str(value)
    return proto


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"location": "w"}, {"w": 0}),
        ({"location": "./w", "offset": 4096}, {"w": 4096}),
        ({"location": "a/w", "offset": 5, "length": 1600, "checksum": "00"}, {"a/w": 5}),
        ({"location": "../w"}, {}),
        ({"location": "a/../../w"}, {}),
        ({"location": "/etc/passwd"}, {}),
        ({"location": "a\\w"}, {}),
        ({"location": "a\0"}, {}),
        ({"location": ""}, {}),
        ({"location": "."}, {}),
        ({}, {}),
        ({"location": "w", "offset": -1}, {}),
        ({"location": "w", "offset": "1e3"}, {}),
        ({"location": "w", "offset": "٣"}, {}),  # a digit to Python
        ({"location": "w", "offset": "9" * 5000}, {}),
        ({"location": "w", "length": 1599}, {}),
        ({"location": "w", "length": 1 << 63}, {}),
    ],
)
def test_external_places_are_taken_only_where_they_can_be_right(places: dict[str, Any], expected: dict[str, int]) -> None:
    """Paths stay in the model's folder, numbers are numbers, lengths are those of the shape."""
    located = locate_external(Held(write([external(**places)])))
    assert expected == {location: tensors[0].offset for location, tensors in located.items()}
    proto = external(**places)
    proto.raw_data = LARGE.tobytes()  # which does not count
    assert [] == locate(Held(write([proto])))


@pytest.mark.parametrize("dims", [[1 << 32, 1 << 32], [(1 << 63) - 1, 8], [-20, -20], [0, 400], [1] * 70 + [400]])
def test_shapes_that_are_not_of_the_bytes_are_left_out(dims: list[int]) -> None:
    """Overflow, negative and empty dimensions do not cost the other tensors."""
    lie = TensorProto(name="lie", dims=dims, data_type=TensorProto.FLOAT, raw_data=LARGE.tobytes())
    assert {"a"} == {found.name for found in locate(Held(write([tensor(), lie])))}


def test_equal_names_are_told_apart() -> None:
    """Tensors of one name, as in two branches, and without one."""
    assert ["a", "a#2", "unnamed"] == [found.name for found in locate(Held(write([tensor(), tensor(), tensor("")])))]


@pytest.mark.parametrize("end", [(1 << 63), (1 << 64) - 1, 5000])
def test_a_length_beyond_the_file_keeps_what_was_before(end: int) -> None:
    """A field that claims to end behind the file's end is not one."""
    good = write([tensor()])
    assert ["a"] == [found.name for found in locate(Held(good + varint(7 << 3 | 2) + varint(end) + b"abc"))]


def test_a_field_that_ends_behind_its_message_ends_the_search() -> None:
    """Elements that reach into the next message are nobody's."""
    content = b"\x08\x90\x03\x10\x01" + varint(9 << 3 | 2) + varint(1600) + b"\0" * 100
    source = Held(b"\x08\x0a" + message(7, message(5, content)) + b"\0" * 4000)
    assert [] == locate(source)


def test_messages_nested_ten_thousand_deep_are_passed_over() -> None:
    """Graphs in attributes in nodes in graphs end at a depth; what lies beside them is found."""
    graph = message(5, tensor().SerializeToString())
    for _ in range(10_000):
        graph = message(1, message(5, message(6, graph)))
    source = Held(b"\x08\x0a" + message(7, graph + message(5, tensor("beside").SerializeToString())))
    assert ["beside"] == [found.name for found in locate(source)]
    assert source.reads < 100


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x01" * 100_000,
        b"\x0a" + varint(200_000) + b"\x01" * 200_000,
        b"\x0b" * 100,
        b"\x80" * 100,
        message(4, b"\0" * 1600) * 2 + b"\x08\x90\x03\x10\x01",
        b"\x25\0\0\0\0" * 400 + b"\x08\x90\x03\x10\x01",
        message(13, message(1, b"location") + message(2, b"w" * 5000)) * 50,
    ],
    ids=["dims", "packed dims", "groups", "endless varint", "two lists", "one by one", "entries"],
)
def test_crafted_tensors_give_nothing(content: bytes) -> None:
    """Tensors with too much of something, or of nothing that is a field."""
    source = Held(b"\x08\x0a" + message(7, message(5, content)))
    assert [] == locate(source)
    assert {} == locate_external(source)


def test_a_model_of_nothing_but_small_fields_ends_by_their_number() -> None:
    """Millions of fields are not all looked at; the limit is on work, not only on bytes."""
    source = Held(write([tensor()]) + message(7, b"\x08\x01" * 3_000_000) + message(7, message(5, tensor("late").SerializeToString())))
    located = locate(source)
    assert_sound(located, source.size)
    assert ["a"] == [found.name for found in located]
