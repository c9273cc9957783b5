"""``lastgood register``."""

from lastgood.cli.flags import Json, Tag
from lastgood.cli.output import note, print_fields, print_json


def register(model: str, /, *, run: str | None = None, tag: Tag = False, json: Json = False) -> None:
    """
    Make a run's model, as the gate passed it, an immutable version.

    Example: lastgood register digits

    Args:
        model: The model's name.
        run: Which run, or the archive it came in; default: the model's newest.
        tag: Tag the run's commit with the version's name, annotated with its digest.
        json: Write JSON.
    """
    from lastgood.pipelines.archive import hand_over, is_archive
    from lastgood.pipelines.register import register as register_run
    from lastgood.pipelines.tag import check_taggable, tag_commit
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    settings = load_settings()
    with hand_over(settings, model, run) as opened, Registry.open(settings, writer="cli") as registry:
        if tag:
            check_taggable(opened)
        version = register_run(opened, registry)
    if tag:
        note(f"tagged {tag_commit(opened, version)}; publish it with: git push origin {version}")
    if json:
        print_json({"run": opened.id, "version": str(version), "digest": version.digest, "new": version.new})
        return
    print_fields(f"{'Registered' if version.new else 'Registered before'} {version}", [("digest", version.digest), ("run", opened.id)])
    note(f"Next: lastgood deploy {run if run and is_archive(run) else version}")
