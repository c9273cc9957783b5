"""``lastgood status``."""

from typing import Any

from lastgood.cli.flags import Json


def status(*, json: Json = False) -> None:
    """
    Show which processes of the stack run, what is served, and what a rollout waits for.

    Args:
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_table
    from lastgood.cli.routes import print_routes
    from lastgood.serving.client import Control, ForeignGatewayError, GatewayAwayError
    from lastgood.settings import load_settings
    from lastgood.stack.processes import Stack
    from lastgood.stack.services import build_services

    settings = load_settings()
    stack = Stack(settings.home)
    services, missing = build_services(settings)
    running = [{"service": s.name, "running": stack.running(s.name) is not None, "url": s.url} for s in services]
    running += [{"service": part.name, "running": False, "url": None} for part in missing]
    routes: list[dict[str, Any]] | None = None
    try:
        with Control(settings) as control:
            routes = control.routes()
    except GatewayAwayError:
        pass  # the table says so
    except ForeignGatewayError as exc:
        note(str(exc))
    if json:
        print_json({"services": running, "routes": routes})
        return
    print_table("Local stack", ("service", "state", "url"), [(s["service"], "running" if s["running"] else "-", s["url"]) for s in running])
    if routes:
        print_routes(routes)
