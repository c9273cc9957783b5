"""``lastgood backup``."""

from pathlib import Path

from lastgood.cli.flags import Json


def backup(file: Path, /, *, json: Json = False) -> None:
    """
    Write all of the registry into one file: what happened, and every version's bytes. Others may write meanwhile.

    Encrypted files stay encrypted: keep the key elsewhere. `lastgood restore` makes an empty registry of it.

    Example: lastgood backup registry-2026-03-01.tar

    Args:
        file: Where to; nothing may be there.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_line
    from lastgood.cli.person import who
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        about = registry.backup(file, actor=who(), on_progress=lambda done, objects: note(f"{done} of {objects} objects"))
    if json:
        print_json(about)
        return
    print_line(
        f"Wrote {file}: {about.events} events, {about.contents} contents and {about.objects} objects, {file.stat().st_size:,} bytes."
    )
    print_line(f"Its newest event is {about.position}, {about.hash}.")
