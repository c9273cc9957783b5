"""``lastgood up``."""

from lastgood.cli.flags import Json


def up(*services: str, json: Json = False) -> None:
    """
    Start the local stack: gateway, Prefect, and where their programs are found Prometheus and Alertmanager.

    What runs already is left alone. Example: lastgood up gateway prometheus

    Args:
        services: Only these; default: all.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_table
    from lastgood.settings import load_settings
    from lastgood.stack.processes import Stack
    from lastgood.stack.services import build_services

    settings = load_settings()
    wanted, missing = build_services(settings, only=services)
    stack = Stack(settings.home)
    started = []
    for service in wanted:
        if stack.running(service.name) is None:
            note(f"starting {service.name} …")
        started.append({"service": service.name, "url": service.url, "started": stack.start(service)})
    for part in missing:
        note(part.sentence)
    if json:
        print_json({"services": started, "missing": [part.name for part in missing]})
    else:
        print_table("Local stack", ("service", "url"), [(entry["service"], entry["url"]) for entry in started])
