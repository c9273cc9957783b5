"""``lastgood show``."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lastgood.cli.output import print_fields, print_json, print_table, short_digest

if TYPE_CHECKING:
    from lastgood.registry.registry import Registry
    from lastgood.registry.rows import Version

LINEAGE_MAX = 50


def show(ref: str, /, *, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """
    Show a version: content, record, aliases, tombstone, lineage.

    Example: lastgood show digits@live

    Args:
        ref: The version: digits (its newest), digits@7, digits@live or sha256:9f2c….
        json: Write JSON.
    """
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        version = registry.resolve(ref)
        shown = _collect(registry, version)
    if json:
        print_json(shown)
    else:
        _print(shown)


def _collect(registry: "Registry", version: "Version") -> dict[str, Any]:
    notes = registry.notes(version.digest)
    return {
        "version": str(version),
        "digest": version.digest,
        "created": version.created,
        "created_by": version.created_by,
        "aliases": [alias.name for alias in registry.aliases(version.model).values() if alias.digest == version.digest],
        "tombstone": registry.tombstones().get(version.digest),
        "description": notes.description,
        "tags": notes.tags,
        "content": registry.content(version.digest),
        "record": registry.record(version.digest, model=version.model),
        "lineage": _trace(registry, version),
    }


def _trace(registry: "Registry", version: "Version") -> list[dict[str, str]]:
    """Give the version this one followed, the one that followed, and so on."""
    from lastgood.errors import NotFoundError

    line: list[dict[str, str]] = []
    seen = {version.digest}
    parent = registry.record(version.digest, model=version.model).parent
    while parent is not None and parent not in seen and len(line) < LINEAGE_MAX:
        seen.add(parent)
        try:
            # A digest may be another model's too; the chain is told in this one's numbers where it has one.
            known = {other.digest: other for other in registry.versions(version.model)}
            found = known.get(parent) or registry.resolve(parent)
        except NotFoundError:
            line.append({"version": "not in this registry", "digest": parent, "why": ""})
            break
        record = registry.record(parent, model=found.model)
        line.append({"version": str(found), "digest": parent, "why": record.why})
        parent = record.parent
    return line


def _print(shown: dict[str, Any]) -> None:
    content, record, tombstone = shown["content"], shown["record"], shown["tombstone"]
    fields = [
        ("digest", shown["digest"]),
        ("created", shown["created"]),
        ("by", shown["created_by"]),
        ("aliases", ", ".join(shown["aliases"])),
        ("description", shown["description"]),
        ("tags", ", ".join(shown["tags"])),
        ("batching", "requests are joined along the first axis" if content.batching == 0 else "each request runs alone"),
    ]
    if tombstone is not None:
        fields.append(("TOMBSTONED", f"{tombstone.time:%Y-%m-%d %H:%M:%S}Z by {tombstone.actor} ({tombstone.cause}): {tombstone.why}"))
    fields += [(name, getattr(record, name)) for name in ("author", "why", "commit", "dirty", "data", "seed", "parent", "run")]
    for part in ("parameters", "metrics", "libraries"):
        fields += [(f"{part}.{name}", value) for name, value in getattr(record, part).items()]
    print_fields(shown["version"], [(name, value) for name, value in fields if value not in (None, "")])
    tensors = [("input", spec) for spec in content.inputs] + [("output", spec) for spec in content.outputs]
    print_table("Tensors", ("tensor", "name", "type", "shape"), [(side, s.name, s.datatype, list(s.shape)) for side, s in tensors])
    print_table("Files", ("file", "bytes", "sha256"), [(entry.path, entry.size, entry.sha256) for entry in content.files])
    if shown["lineage"]:
        rows = [(step["version"], short_digest(step["digest"]), step["why"]) for step in shown["lineage"]]
        print_table("Lineage", ("parent", "digest", "why"), rows)
