"""``lastgood routes``."""

from collections.abc import Mapping
from typing import Any

from lastgood.cli.flags import Json


def routes(*, json: Json = False) -> None:
    """
    Show who gets what now.

    Args:
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        found = control.routes()
    if json:
        print_json(found)
    elif found:
        print_routes(found)
    else:
        note("Nothing is served yet. Release something: lastgood release digits")


def print_routes(found: list[dict[str, Any]]) -> None:
    """Write the route table: a line for each version that gets requests."""
    from lastgood.cli.output import print_table

    rows = [
        (
            f"{model['model']}@{lane['number']}",
            lane["role"],
            f"{lane['share']:.0%}",
            tell_ready(lane),
            tell_replicas(lane.get("replicas")),
            tell_progress(model),
            lane["since"][:19] + "Z",
        )
        for model in found
        for lane in list_served(model)
    ]
    print_table("Routes", ("version", "role", "share", "ready", "replicas", "rollout", "serving since"), rows)


def list_served(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give a model's lanes, a shadow's among them: it gets copies of what the first one gets."""
    shadow = model.get("shadow")
    since = model["lanes"][0]["since"] if model["lanes"] else ""
    return [*model["lanes"], *([{**shadow, "role": "shadow", "share": 0.0, "since": since}] if shadow else [])]


def tell_ready(lane: Mapping[str, Any]) -> str:
    """Say in a word whether a version answers; one that sleeps is woken by its next request."""
    return "NO" if not lane["ready"] else "asleep" if lane.get("sleeping") else "yes"


def tell_replicas(replicas: Mapping[str, Any] | None) -> str:
    """Say how many of a version's replicas are up, and how each one runs."""
    if replicas is None:
        return "-"
    threads = "" if replicas["threads"] == 1 else f", {replicas['threads']} threads"
    return f"{len(replicas['pids'])} of {replicas['wanted']}" + "".join(f" {name}" for name in replicas["providers"]) + threads


def tell_progress(state: Mapping[str, Any]) -> str:
    """Say in a few words where a model's rollout stands and what it waits for."""
    rollout, progress = state["rollout"], state["progress"]
    if state["reason"] and not all(lane["ready"] for lane in state["lanes"]):
        return f"not up: {state['reason']}"
    if state["frozen"]:
        return f"frozen: {state['frozen']}"
    if rollout is None:
        return "-"
    name = f"{state['model']}@{rollout['candidate']['number']} {rollout['state']}"
    if rollout.get("comparison") and rollout["state"] == "soaking":
        beside = f" with {state['model']}@{rollout['baseline']['number']}" if rollout["baseline"] else ""
        name = f"{state['model']}@{rollout['candidate']['number']} compared{beside} (alert)"
    if rollout["state"] == "withdrawn":
        return f"{name} ({rollout['cause']})"
    if progress is None:
        return name
    held = ", suspected" if rollout["suspected"] else ""
    return (
        f"{name}: {progress['requests']} of {progress['requests_needed']} requests, "
        f"{progress['seconds']:.0f} of {progress['seconds_needed']:.0f} s{held}"
    )
