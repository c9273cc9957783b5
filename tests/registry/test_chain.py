"""The chain: whatever is changed in the log is found."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lastgood.registry.chain import FIELDS, Head, check_chain
from lastgood.registry.events import decode_payload, encode_payload, hash_fields

Row = dict[str, Any]


@st.composite
def logs(draw: st.DrawFn, least: int = 1) -> tuple[list[Row], dict[str, Head]]:
    """A log that two writers took turns to write."""
    rows: list[Row] = []
    heads: dict[str, Head] = {}
    for position, writer in enumerate(draw(st.lists(st.sampled_from(["cli", "gateway"]), min_size=least, max_size=6)), 1):
        sequence, previous = heads.get(writer, (0, None))
        row: Row = {
            "position": position,
            "writer": writer,
            "sequence": sequence + 1,
            "time": f"2026-03-01T14:03:{position:02}.000000Z",
            "kind": "noted",
            "model": draw(st.none() | st.just("digits")),
            "digest": None,
            "actor": "ada",
            "payload": encode_payload({"n": draw(st.integers(0, 3))}),
            "idempotency": None,
            "previous": previous,
            "anchor": rows[-1]["hash"] if rows else None,
        }
        row["hash"] = hash_fields(row)
        rows.append(row)
        heads[writer] = (sequence + 1, row["hash"])
    return rows, heads


def change(field: str, value: Any) -> Any:
    """Give another value that the column could hold."""
    if field == "payload":
        return encode_payload({"n": decode_payload(value)["n"] + 1})
    if isinstance(value, int):
        return value + 1
    return "0" * 64 if value is None else value[:-1] + ("0" if value[-1] != "0" else "1")


@given(logs())
def test_a_log_as_written_is_sound(log: tuple[list[Row], dict[str, Head]]) -> None:
    """Nothing is found where nothing was changed."""
    assert [] == list(check_chain(*log))


@given(logs(), st.sampled_from(FIELDS), st.data())
def test_any_changed_field_is_found(log: tuple[list[Row], dict[str, Head]], field: str, draw: st.DataObject) -> None:
    """Changing one field of one event is a problem, and the event is named."""
    rows, heads = log
    index = draw.draw(st.integers(0, len(rows) - 1))
    rows[index] = {**rows[index], field: change(field, rows[index][field])}
    names = [name for name, _ in check_chain(rows, heads)]
    assert f"event {rows[index]['position']}" in names


@given(logs(), st.data())
def test_any_missing_event_is_found(log: tuple[list[Row], dict[str, Head]], draw: st.DataObject) -> None:
    """An event that is gone leaves a gap, also at the end."""
    rows, heads = log
    del rows[draw.draw(st.integers(0, len(rows) - 1))]
    assert list(check_chain(rows, heads))


@given(logs(least=2), st.data())
def test_any_change_of_order_is_found(log: tuple[list[Row], dict[str, Head]], draw: st.DataObject) -> None:
    """Two events that changed places are found, even when they were given each other's positions."""
    rows, heads = log
    one, other = sorted(draw.draw(st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True)))
    first, second = rows[one], rows[other]
    rows[one], rows[other] = {**second, "position": first["position"]}, {**first, "position": second["position"]}
    assert list(check_chain(rows, heads))


@given(logs(), st.data())
def test_an_event_rewritten_with_a_new_hash_is_found(log: tuple[list[Row], dict[str, Head]], draw: st.DataObject) -> None:
    """Whoever also recomputes the changed event's own hash still contradicts the events after it, or the writer's head."""
    rows, heads = log
    index = draw.draw(st.integers(0, len(rows) - 1))
    rows[index] = {**rows[index], "actor": "mallory"}
    rows[index]["hash"] = hash_fields(rows[index])
    assert list(check_chain(rows, heads))


@given(logs(least=2), st.data())
def test_a_writers_chain_rewritten_whole_is_found_by_the_others(log: tuple[list[Row], dict[str, Head]], draw: st.DataObject) -> None:
    """Whoever recomputes one writer's every hash, and its head, still contradicts an event of another writer that came right after."""
    rows, heads = log
    pairs = [index for index in range(len(rows) - 1) if rows[index]["writer"] != rows[index + 1]["writer"]]
    assume(pairs)
    index = draw.draw(st.sampled_from(pairs))
    writer, previous = rows[index]["writer"], rows[index]["previous"]
    for position in range(index, len(rows)):
        if rows[position]["writer"] == writer:
            rows[position] = {
                **rows[position],
                "actor": "mallory",
                "previous": previous,
                "anchor": rows[position - 1]["hash"] if position else None,
            }
            previous = rows[position]["hash"] = hash_fields(rows[position])
            heads[writer] = (rows[position]["sequence"], previous)
    assert [f"event {index + 2}"] == [name for name, sentence in check_chain(rows, heads)][:1]


@pytest.mark.parametrize("payload", ['{"n": 1}', "[]", "{", '{"n":1}{'])
def test_a_payload_that_is_not_canonical_is_found(payload: str) -> None:
    """Another spelling of the same JSON, or no JSON at all, is a problem and no crash."""
    row: Row = dict.fromkeys(FIELDS) | {"position": 1, "writer": "cli", "sequence": 1, "time": "", "payload": '{"n":1}'}
    row["hash"] = hash_fields(row)
    assert [] == list(check_chain([row], {"cli": (1, row["hash"])}))
    assert list(check_chain([{**row, "payload": payload}], {"cli": (1, row["hash"])}))
