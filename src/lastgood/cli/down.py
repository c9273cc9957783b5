"""``lastgood down``."""


def down(*services: str) -> None:
    """
    Stop what `lastgood up` started here; requests under way are answered first. Example: lastgood down prometheus

    Args:
        services: Only these; default: all.
    """
    from lastgood.cli.output import note
    from lastgood.settings import load_settings
    from lastgood.stack.processes import Stack
    from lastgood.stack.services import build_services

    settings = load_settings()
    stack = Stack(settings.home)
    # What scrapes and calls the gateway goes first.
    names = [service.name for service in reversed(build_services(settings, only=services)[0])]
    stopped = [name for name in names if stack.stop(name)]
    note(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
