"""The registry as its users see it: versions, references, aliases, tombstones, routes, events."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.errors import ConflictError, NotFoundError, TombstonedError, UsageError
from lastgood.refs import InvalidRefError
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import (
    AliasMovedError,
    AliasNotFoundError,
    AmbiguousDigestError,
    ContentMismatchError,
    DigestTombstonedError,
    EventNotFoundError,
    InvalidEventError,
    InvalidSourceError,
    KeyReusedError,
    ModelNotFoundError,
    NoTombstoneError,
    ReservedAliasError,
    RouteChangedError,
    VersionNotFoundError,
)
from lastgood.registry.registry import Registry
from lastgood.registry.rows import StoredRoute, Version

Add = Callable[..., Version]
Draft = Callable[[str], tuple[Content, dict[str, Path]]]
SAID = Record("ada", "why not")


def take_out(registry: Registry, version: Version, *, key: str | None = None) -> str:
    with registry.transaction() as transaction:
        return transaction.tombstone(
            version.digest, model=version.model, cause="judge", actor="gateway", why="failed", payload={"e": 20.5}, idempotency=key
        ).hash


def test_numbers_count_up_per_model(registry: Registry, add: Add) -> None:
    """Each model counts its own versions from 1."""
    assert registry.next_number("digits") == 1
    assert [1, 2, 1] == [add("a").number, add("b").number, add("a", model="tumour").number]
    assert registry.next_number("digits") == 3
    assert ["digits", "tumour"] == registry.models()
    assert [1, 2] == [version.number for version in registry.versions("digits")]


def test_the_same_content_is_the_same_version(registry: Registry, add: Add) -> None:
    """Registering a digest the model has returns its number and writes nothing."""
    first = add("a")
    events = registry.events()
    again = add("a", why="another reason")
    assert (first, True, False) == (again, first.new, again.new)
    assert events == registry.events()
    assert registry.record(first.digest).why == "because of a"


def test_a_record_comes_back_as_it_was_said(registry: Registry, add: Add) -> None:
    """Lineage, parameters and metrics are kept with the digest."""
    parent = add("a")
    said = {
        "commit": "abc",
        "seed": 7,
        "parent": parent.digest,
        "parameters": {"width": 3, "layers": [1, 2]},
        "metrics": {"accuracy": 0.97},
    }
    version = add("b", **said)
    assert Record("ada", "because of b", **said) == registry.record(version.digest)  # type: ignore[arg-type]  # fields by name


def test_each_model_has_its_own_record_of_a_digest(registry: Registry, add: Add) -> None:
    """The same bytes may be registered in two models for two reasons; without a model, the first one counts."""
    version = add("a")
    add("a", model="tumour", why="tried it there")
    whys = [registry.record(version.digest, model=model).why for model in (None, "digits", "tumour")]
    assert ["because of a", "because of a", "tried it there"] == whys
    with pytest.raises(VersionNotFoundError):
        registry.record(version.digest, model="nosuch")


def test_contents_come_back_by_digest(registry: Registry, draft: Draft, add: Add) -> None:
    """The content is found by its digest, and an unknown digest by nobody."""
    content, _ = draft("a")
    assert content == registry.content(add("a").digest)
    with pytest.raises(VersionNotFoundError):
        registry.content("sha256:" + "0" * 64)
    with pytest.raises(VersionNotFoundError):
        registry.record("sha256:" + "0" * 64)


def test_files_must_be_the_ones_listed(registry: Registry, draft: Draft) -> None:
    """Other bytes, a missing file or one too many are refused, and no version is made."""
    content, files = draft("a")
    with pytest.raises(ContentMismatchError, match=r"labels\.txt"):
        registry.register("digits", content, {"model.onnx": files["model.onnx"]}, SAID, actor="ada")
    files["model.onnx"].write_bytes(b"other bytes")
    with pytest.raises(ContentMismatchError, match=r"model\.onnx"):
        registry.register("digits", content, files, SAID, actor="ada")
    assert [] == registry.models()
    assert [] == registry.events()


def test_a_wrong_size_is_refused(registry: Registry, draft: Draft) -> None:
    """A content that lies about a size only is refused too."""
    content, files = draft("a")
    wrong = tuple(FileEntry(entry.path, entry.size + 1, entry.sha256) for entry in content.files)
    with pytest.raises(ContentMismatchError):
        registry.register("digits", Content(wrong, (), (), None), files, SAID, actor="ada")


def test_names_an_export_needs_are_refused(registry: Registry, draft: Draft) -> None:
    """A version cannot have a file that an export would write over."""
    content, files = draft("a")
    entries = sorted([*content.files, FileEntry("content.json", 0, "0" * 64)], key=lambda entry: entry.path)
    with pytest.raises(InvalidSourceError, match=r"content\.json"):
        registry.register("digits", Content(tuple(entries), (), (), None), files, SAID, actor="ada")


def test_a_record_that_is_no_json_is_refused(registry: Registry, draft: Draft) -> None:
    """A metric that is not a number is a sentence, and no version is made."""
    content, files = draft("a")
    with pytest.raises(InvalidEventError, match="not JSON"):
        registry.register("digits", content, files, Record("ada", "why", metrics={"loss": float("nan")}), actor="ada")
    assert [] == registry.models()


def test_references_resolve(registry: Registry, add: Add) -> None:
    """Number, alias, latest, whole digest and digest prefix all name the version."""
    first, second = add("a"), add("b")
    registry.move_alias("digits", "audited", first.digest, actor="ada", why="audit")
    prefix = first.digest[:20]
    for ref, version in {
        "digits": second,
        "digits@latest": second,
        "digits@1": first,
        "digits@audited": first,
        first.digest: first,
        prefix: first,
        f"digits@{prefix}": first,
    }.items():
        assert version == registry.resolve(ref)


def test_an_ambiguous_digest_lists_what_it_could_be(registry: Registry, add: Add) -> None:
    """With enough versions two digests share six digits only by luck, so all of them share none: the prefix is made to."""
    versions = [add(str(number)) for number in range(2)]
    with registry._database.reading() as connection:
        from lastgood.registry.resolve import _by_digest

        with pytest.raises(AmbiguousDigestError) as raised:
            _by_digest(connection, "sha256:", None)
    assert all(str(version) in str(raised.value) for version in versions)


@pytest.mark.parametrize(
    ("ref", "error", "sentence"),
    [
        ("digist", ModelNotFoundError, "Did you mean 'digits'"),
        ("digits@2", VersionNotFoundError, "newest is digits@1"),
        ("digits@live", AliasNotFoundError, "lastgood deploy"),
        ("digits@auditd", AliasNotFoundError, "Did you mean 'audited'"),
        ("sha256:000000", VersionNotFoundError, "sha256:000000"),
        ("nosuch@sha256:000000", ModelNotFoundError, "Models: digits"),
        ("digits@@", InvalidRefError, "names no version"),
    ],
)
def test_what_names_nothing_gets_a_sentence_that_helps(
    registry: Registry, add: Add, ref: str, error: type[Exception], sentence: str
) -> None:
    """The message says what is near, or what to do."""
    registry.move_alias("digits", "audited", add("a").digest, actor="ada", why="audit")
    with pytest.raises(error, match=sentence):
        registry.resolve(ref)


def test_aliases_move_only_from_where_they_were_expected(registry: Registry, add: Add) -> None:
    """A move under a wrong expectation changes nothing."""
    first, second = add("a"), add("b")
    registry.move_alias("digits", "audited", first.digest, expected=None, actor="ada", why="audit")
    with pytest.raises(AliasMovedError, match=first.digest):
        registry.move_alias("digits", "audited", second.digest, expected=None, actor="ada", why="audit")
    assert registry.aliases("digits")["audited"].number == 1
    registry.move_alias("digits", "audited", second.digest, expected=first.digest, actor="ada", why="audit")
    assert registry.aliases("digits")["audited"].number == 2
    registry.move_alias("digits", "audited", None, actor="ada", why="done")
    assert {} == registry.aliases("digits")


def test_an_alias_moved_to_where_it_is_writes_nothing(registry: Registry, add: Add) -> None:
    """Saying the same twice is not a second event."""
    version = add("a")
    registry.move_alias("digits", "audited", version.digest, actor="ada", why="audit")
    events = registry.events()
    registry.move_alias("digits", "audited", version.digest, actor="ada", why="audit")
    assert events == registry.events()


@pytest.mark.parametrize("name", ["live", "stable", "latest"])
def test_some_aliases_are_not_moved_by_hand(registry: Registry, add: Add, name: str) -> None:
    """Who is live is the rollout's to say."""
    with pytest.raises(ReservedAliasError, match=name):
        registry.move_alias("digits", name, add("a").digest, actor="ada", why="now")


@pytest.mark.parametrize("name", ["7", "sha256:abcdef", "latest"])
def test_an_alias_cannot_look_like_another_reference(registry: Registry, add: Add, name: str) -> None:
    """A rollout cannot either: the reference would name something else."""
    version = add("a")
    with pytest.raises(ReservedAliasError), registry.transaction() as transaction:
        transaction.move_alias("digits", name, version.digest, actor="ada", why="now")


def test_aliases_point_to_versions_of_their_model(registry: Registry, add: Add) -> None:
    """A digest that only another model has is refused."""
    add("a")
    other = add("b", model="tumour")
    with pytest.raises(VersionNotFoundError, match="digits"):
        registry.move_alias("digits", "audited", other.digest, actor="ada", why="audit")


def test_a_tombstoned_digest_cannot_come_back(registry: Registry, add: Add) -> None:
    """Not as itself, not under another name, not behind an alias, until a person lifts it."""
    bad = add("bad")
    identity = take_out(registry, bad)
    stone = registry.tombstones()[bad.digest]
    assert (identity, "judge", "failed") == (stone.id, stone.cause, stone.why)
    for attempt in (
        lambda: add("bad"),
        lambda: add("bad", model="tumour"),
        lambda: registry.move_alias("digits", "audited", bad.digest, actor="ada", why="please"),
    ):
        with pytest.raises(DigestTombstonedError, match="lastgood lift") as raised:
            attempt()
        assert isinstance(raised.value, TombstonedError)
    lifted = registry.lift(bad.digest, actor="ada", why="the data was bad, not the model")
    assert identity == lifted.payload["tombstone"]
    assert {} == registry.tombstones()
    assert bad == add("bad")
    with pytest.raises(NoTombstoneError):
        registry.lift(bad.digest, actor="ada", why="again")


def test_a_second_tombstone_is_the_first(registry: Registry, add: Add) -> None:
    """Taking out twice is one event; a reason to lift must be one."""
    bad = add("bad")
    assert take_out(registry, bad) == take_out(registry, bad)
    assert ["registered", "tombstoned"] == [event.kind for event in registry.events()]
    with pytest.raises(InvalidEventError, match="reason"):
        registry.lift(bad.digest, actor="ada", why=" ")


def test_only_a_models_version_can_be_taken_out(registry: Registry, add: Add) -> None:
    """A digest that the model does not have is no version of it."""
    add("a")
    other = add("b", model="tumour")
    with pytest.raises(VersionNotFoundError), registry.transaction() as transaction:
        transaction.tombstone(other.digest, model="digits", cause="person", actor="ada", why="bad", payload={})


def test_a_repeated_withdrawal_does_not_undo_a_lift(registry: Registry, add: Add) -> None:
    """A journal that is played again after a person lifted the tombstone takes nothing out, whichever call was recorded."""
    for key, known in (("fresh", False), ("late", True)):
        bad = add(key)
        if known:
            take_out(registry, bad)
        identity = take_out(registry, bad, key=key)
        registry.lift(bad.digest, actor="ada", why="looked at it")
        assert identity == take_out(registry, bad, key=key)
        assert bad.digest not in registry.tombstones()
    assert registry.verify().ok


def test_a_repeated_move_does_not_undo_a_later_one(registry: Registry, add: Add) -> None:
    """The same key moves an alias once, even where the first call had nothing to do."""
    first, second = add("a"), add("b")

    def move(version: Version, key: str | None = None) -> None:
        with registry.transaction() as transaction:
            transaction.move_alias("digits", "live", version.digest, actor="gateway", why="rollout", idempotency=key)

    move(first)
    move(first, "nothing to do")
    move(first, "nothing to do")
    move(second, "moved")
    move(first, "nothing to do")
    assert registry.aliases("digits")["live"].number == 2
    move(first)
    move(second, "moved")
    assert registry.aliases("digits")["live"].number == 1
    assert registry.verify().ok


def test_routes_are_compared_and_swapped(registry: Registry) -> None:
    """A writer that read an older generation changes nothing; generations count up from 1."""

    def write(expected: int, share: float) -> int:
        with registry.transaction() as transaction:
            return transaction.write_route("digits", {"share": share}, expected=expected)

    assert registry.route("digits") is None
    assert [1, 2] == [write(0, 0.1), write(1, 0.5)]
    for stale in (0, 1, 3):
        with pytest.raises(RouteChangedError, match="generation 2"):
            write(stale, 0.9)
    assert StoredRoute("digits", 2, {"share": 0.5}) == registry.route("digits")
    assert [StoredRoute("digits", 2, {"share": 0.5})] == registry.routes()


def test_a_repeated_route_is_written_once(registry: Registry) -> None:
    """The same key gives the generation it was written under."""
    for _ in range(2):
        with registry.transaction() as transaction:
            assert transaction.write_route("digits", {}, expected=0, idempotency="k") == 1
    assert len(registry.events()) == 1


def test_the_same_key_is_the_same_event(registry: Registry, add: Add) -> None:
    """A repeated append returns the first event; the key cannot name another one."""
    version = add("a")

    def append(kind: str = "shared", model: str = "digits", count: int = 1) -> int:
        with registry.transaction() as transaction:
            payload = {"count": count}
            return transaction.append(kind, model=model, digest=version.digest, actor="gw", payload=payload, idempotency="key").position

    first = append()
    assert first == append(count=2)
    assert {"count": 1} == registry.event(str(first)).payload
    for kind, model in (("shadowed", "digits"), ("shared", "tumour")):
        with pytest.raises(KeyReusedError, match="'key'") as raised:
            append(kind, model)
        assert isinstance(raised.value, ConflictError)


@pytest.mark.parametrize("kind", ["registered", "alias-moved", "tombstoned", "lifted", "route", "No Kind"])
def test_kinds_that_tables_are_derived_from_are_not_appended_by_hand(registry: Registry, kind: str) -> None:
    """An event without its row would be a lie."""
    with pytest.raises(InvalidEventError, match=kind), registry.transaction() as transaction:
        transaction.append(kind, model=None, digest=None, actor="ada", payload={})


def test_a_transaction_that_fails_leaves_nothing(registry: Registry, add: Add) -> None:
    """Everything before the error is undone: events, aliases, routes, tombstones."""
    version = add("a")
    before = registry.events()

    def fail() -> None:
        with registry.transaction() as transaction:
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})
            transaction.move_alias("digits", "live", version.digest, actor="ada", why="now")
            transaction.write_route("digits", {}, expected=0)
            transaction.tombstone(version.digest, model="digits", cause="person", actor="ada", why="bad", payload={})
            transaction.write_route("digits", {}, expected=7)

    with pytest.raises(RouteChangedError):
        fail()
    assert (before, {}, {}, []) == (registry.events(), registry.aliases("digits"), registry.tombstones(), registry.routes())
    assert registry.verify().ok


def test_events_are_read_in_pages(registry: Registry, add: Add) -> None:
    """By model, behind a position, from either end."""
    for text in "abc":
        add(text)
    add("a", model="tumour")
    assert [1, 2, 3, 4] == [event.position for event in registry.events()]
    assert [4] == [event.position for event in registry.events(model="tumour")]
    assert [3] == [event.position for event in registry.events(after=2, limit=1)]
    assert [4, 3] == [event.position for event in registry.events(limit=2, newest_first=True)]


def test_an_event_is_found_by_position_or_hash(registry: Registry, add: Add) -> None:
    """Six digits of the hash are enough; what names none is a sentence."""
    add("a")
    event = registry.events()[0]
    assert event == registry.event("1")
    assert event == registry.event(event.hash[:12])
    for name in ("2", "000000", event.hash[:3], "not one", ""):
        with pytest.raises(EventNotFoundError) as raised:
            registry.event(name)
        assert isinstance(raised.value, NotFoundError)


def test_writers_have_chains_of_their_own_anchored_together(registry: Registry, add: Add) -> None:
    """Each event carries its writer's previous hash and the newest hash of any writer."""
    add("a")
    other = Registry(registry._database, registry._files, writer="other")
    for appender in (other, registry, other):
        with appender.transaction() as transaction:
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})
    events = registry.events()
    assert [None, None, events[0].hash, events[1].hash] == [event.previous for event in events]
    assert [None, *(event.hash for event in events[:3])] == [event.anchor for event in events]
    assert [("test", 1), ("other", 1), ("test", 2), ("other", 2)] == [(event.writer, event.sequence) for event in events]
    assert registry.verify().ok


def test_notes_are_about_the_digest(registry: Registry, add: Add) -> None:
    """A description is replaced, tags add up, and the digest stays."""
    version = add("a")
    for text in ("first", "second"):
        registry.describe(version, text, actor="ada")
        registry.add_tag(version, text, actor="ada")
    notes = registry.notes(version.digest)
    assert ("second", ("first", "second")) == (notes.description, notes.tags)
    assert version == registry.resolve("digits")


@pytest.mark.parametrize("writer", ["", "CLI", "a b"])
def test_a_writer_has_a_name(registry: Registry, writer: str) -> None:
    """A chain nobody can name is refused before anything is opened."""
    with pytest.raises(UsageError, match="writer"):
        Registry(registry._database, registry._files, writer=writer)
