"""An event as a sentence."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lastgood.cli.output import short_digest

if TYPE_CHECKING:
    from lastgood.registry.events import Event


def tell(event: "Event") -> str:
    """Say what happened; an event of a kind unknown here is told by its name and what is plain in its payload."""
    teller = _TELLERS.get(event.kind)
    return teller(event, event.payload) if teller else _tell_other(event, event.payload)


def _why(payload: Mapping[str, Any]) -> str:
    return f": {payload['why']}" if payload.get("why") else ""


def _registered(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"registered {event.model}@{payload['number']} ({short_digest(event.digest)}){_why(payload.get('record', {}))}"


def _alias_moved(event: "Event", payload: Mapping[str, Any]) -> str:
    name, number, origin = f"{event.model}@{payload['name']}", payload.get("number"), payload.get("from_number")
    if number is None:
        return f"removed {name}, which was {origin}{_why(payload)}"
    came = f", before that {origin}" if origin is not None else ""
    return f"{name} is now {number}{came}{_why(payload)}"


def _tombstoned(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"took {short_digest(event.digest)} of {event.model} out as bad (by {payload['cause']}){_why(payload)}"


def _lifted(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"lifted the tombstone of {short_digest(event.digest)}{_why(payload)}"


def _route(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"wrote route {payload['generation']} of {event.model}"


def _described(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"described {short_digest(event.digest)} of {event.model}: {payload['text']}"


def _tagged(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"tagged {short_digest(event.digest)} of {event.model}: {payload['tag']}"


def _tell_other(event: "Event", payload: Mapping[str, Any]) -> str:
    about = " ".join(filter(None, (event.model, short_digest(event.digest))))
    plain = [f"{name}={value}" for name, value in payload.items() if name != "why" and isinstance(value, str | int | float | bool)]
    return " ".join(filter(None, (event.kind.replace("-", " "), about, f"({', '.join(plain)})" if plain else ""))) + _why(payload)


def _submitted(event: "Event", payload: Mapping[str, Any]) -> str:
    rollout = payload["rollout"]
    beside = f" beside {event.model}@{rollout['baseline']['number']}" if rollout["baseline"] else ""
    return f"began to roll {event.model}@{rollout['candidate']['number']} out ({rollout['strategy']}){beside}{_why(payload)}"


def _compared(event: "Event", payload: Mapping[str, Any]) -> str:
    candidate, baseline = (payload["rollout"][role]["number"] for role in ("candidate", "baseline"))
    return f"began to compare {event.model}@{candidate}, which is live, with {event.model}@{baseline}{_why(payload)}"


def _went_on(event: "Event", payload: Mapping[str, Any]) -> str:
    share = f" at {payload['share']:.0%}" if payload.get("share") else ""
    return f"{event.model}@{payload['version']} is {payload['state']}{share}{_why(payload)}"


def _withdrawn(event: "Event", payload: Mapping[str, Any]) -> str:
    receipt = f"; compute it again: lastgood explain {event.position}" if "receipt" in payload else ""
    return f"took {event.model}@{payload['version']} out of serving (by {payload['cause']}){_why(payload)}{receipt}"


def _died(event: "Event", payload: Mapping[str, Any]) -> str:
    return f"a replica of {event.model}@{payload['version']} died{_why(payload)}"


def _collected(_: "Event", payload: Mapping[str, Any]) -> str:
    return f"removed {payload['objects']} stored objects ({payload['bytes']:,} bytes) that no version needs"


def _backed_up(_: "Event", payload: Mapping[str, Any]) -> str:
    return f"backed the registry up, as it was after event {payload['position']}"


def _restored(_: "Event", payload: Mapping[str, Any]) -> str:
    return f"restored a backup of {payload['time']}, as the registry was after event {payload['position']}"


def _paged(_: "Event", payload: Mapping[str, Any]) -> str:
    return f"a person is needed{_why(payload)}"


def _drifted(event: "Event", payload: Mapping[str, Any]) -> str:
    means = f" ({payload['meaning']})" if payload["meaning"] != "none" else ""
    return f"{'drift' if event.kind == 'drift-found' else 'drift is gone'} at {event.model}@{payload['version']}{means}{_why(payload)}"


_TELLERS: dict[str, Callable[["Event", Mapping[str, Any]], str]] = {
    "registered": _registered,
    "alias-moved": _alias_moved,
    "tombstoned": _tombstoned,
    "lifted": _lifted,
    "route": _route,
    "collected": _collected,
    "backed-up": _backed_up,
    "restored": _restored,
    "rollout-submitted": _submitted,
    "comparison-begun": _compared,
    **dict.fromkeys(
        (
            "rollout-shadow",
            "rollout-canary",
            "rollout-soaking",
            "rollout-stable",
            "rollout-withdrawn",
            "rollout-step-passed",
            "rollout-suspected",
            "rollout-halved",
            "rollout-cleared",
        ),
        _went_on,
    ),
    "withdrawn": _withdrawn,
    "drift-found": _drifted,
    "drift-gone": _drifted,
    "replica-died": _died,
    "page": _paged,
    "described": _described,
    "tagged": _tagged,
}
