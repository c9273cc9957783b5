"""``lastgood list``."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lastgood.cli.output import note, print_json, print_table, short_digest

if TYPE_CHECKING:
    from lastgood.registry.registry import Registry


def list_(model: str | None = None, /, *, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """
    List models, or the versions of one, newest first.

    Example: lastgood list digits

    Args:
        model: The model whose versions to list.
        json: Write JSON.
    """
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        if model is None:
            _list_models(registry, json=json)
        else:
            _list_versions(registry, model, json=json)


def _list_models(registry: "Registry", *, json: bool) -> None:
    rows = []
    for model in registry.models():
        newest, aliases = registry.versions(model)[-1], registry.aliases(model)
        held = {name: aliases[name].number if name in aliases else None for name in ("live", "stable")}
        rows.append({"model": model, "newest": newest.number, **held, "created": newest.created})
    if json:
        print_json(rows)
    elif rows:
        print_table("Models", ("model", "newest", "live", "stable", "created"), [tuple(row.values()) for row in rows])
    else:
        note("No model is registered yet. Start with `lastgood new NAME` or `lastgood import FILE --model NAME`.")


def _list_versions(registry: "Registry", model: str, *, json: bool) -> None:
    aliases, tombstones = registry.aliases(model), registry.tombstones()
    rows: list[dict[str, Any]] = []
    for version in reversed(registry.versions(model)):
        names = [alias.name for alias in aliases.values() if alias.number == version.number]
        stone = tombstones.get(version.digest)
        rows.append(
            {
                "version": str(version),
                "digest": version.digest,
                "aliases": names,
                "tombstone": None if stone is None else stone.why,
                "created": version.created,
                "by": version.created_by,
                "why": registry.record(version.digest, model=model).why,
            }
        )
    if json:
        print_json(rows)
        return
    cells = [
        (row["version"], short_digest(row["digest"]), ", ".join(row["aliases"]), state, row["created"], row["by"], row["why"])
        for row in rows
        for state in ["" if row["tombstone"] is None else "tombstoned"]
    ]
    print_table(f"Versions of {model}", ("version", "digest", "aliases", "state", "created", "by", "why"), cells)
