"""``lastgood register``."""

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_fields, print_json


def register(model: str, /, *, run: str | None = None, json: Json = False) -> None:
    """
    Make a run's model, as the gate passed it, an immutable version.

    Example: lastgood register digits

    Args:
        model: The model's name.
        run: Which run; default: the model's newest.
        json: Write JSON.
    """
    from lastgood.pipelines.register import register as register_run
    from lastgood.pipelines.run import open_model_run
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    settings = load_settings()
    opened = open_model_run(settings, model, run)
    with Registry.open(settings, writer="cli") as registry:
        version = register_run(opened, registry)
    if json:
        print_json({"run": opened.id, "version": str(version), "digest": version.digest, "new": version.new})
        return
    print_fields(f"{'Registered' if version.new else 'Registered before'} {version}", [("digest", version.digest), ("run", opened.id)])
    note(f"Next: lastgood deploy {version}")
