"""``lastgood gc``."""

from lastgood.cli.flags import DryRun, Json


def gc(*, dry_run: DryRun = False, json: Json = False) -> None:
    """
    Remove stored bytes that no version needs: what registrations left that did not come to their end.

    Versions lose nothing, and others may register meanwhile. What was written within the last hour stays.

    Example: lastgood gc --dry-run

    Args:
        dry_run: Say what would be removed, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_line
    from lastgood.cli.person import who
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    def tell(done: int, objects: int) -> None:
        if done % 5000 == 0:
            note(f"removed {done} of {objects} objects")

    with Registry.open(load_settings(), writer="cli") as registry:
        found = registry.collect(actor=who(), dry_run=dry_run, on_progress=tell)
    if json:
        print_json(found)
        return
    what = "would be removed" if dry_run else "removed"
    print_line(f"{found.objects} stored objects ({found.bytes:,} bytes) {what}; versions need {found.kept}.")
    if found.recent:
        print_line(
            f"{found.recent} more are needed by none but were written within the last hour: they may be of a registration that goes on."
        )
