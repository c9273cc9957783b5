"""``lastgood restore``."""

from pathlib import Path

from lastgood.cli.flags import Json


def restore(file: Path, /, *, json: Json = False) -> int:
    """
    Make an empty registry what a backup holds, and check every byte and event of it; exit 5 names what is not as it was recorded.

    Into another folder: LASTGOOD_HOME=/somewhere/new lastgood restore FILE. Where it is interrupted, do it again.

    Example: lastgood restore registry-2026-03-01.tar

    Args:
        file: From `lastgood backup`.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_line
    from lastgood.cli.person import who
    from lastgood.cli.verify import tell
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        about = registry.restore(file, actor=who(), on_progress=lambda done, objects: note(f"{done} of {objects} objects"))
        note("checking every byte")
        report = registry.verify()
    if json:
        print_json({"backup": about, "ok": report.ok, "report": report})
    else:
        print_line(f"Restored what was recorded up to {about.time}: {about.events} events and {about.contents} contents.")
    return tell(report, quiet=json)
