"""The drill of a version that goes bad when nobody compares it any more: Prometheus sees it, Alertmanager tells the gateway."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import httpx

from lastgood.drill.asking import Asker
from lastgood.drill.course import Measured, send_until_decided
from lastgood.drill.faults import Fault
from lastgood.errors import TimedOutError, UnavailableError
from lastgood.registry.rows import Version
from lastgood.serving.client import Control
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services

_SCRAPE_SECONDS: Final = 30.0
_HISTORY: Final = 400  # requests that Prometheus sees before the version goes bad: one that has a past, not a fresh one


class CannotPlayError(UnavailableError):
    """A drill needs programs that are not here."""

    code = "drill.cannot-play"


def play_late(settings: Settings, control: Control, asker: Asker, fault: Fault, bad: Version, begin: Callable[[], object]) -> Measured:
    """
    Let a stable version go bad, and ask until an alert has taken it back.

    Args:
        settings: Of the place, with ports for Prometheus and Alertmanager.
        control: Its gateway.
        asker: Asks all the while.
        fault: What goes wrong.
        bad: The version, stable.
        begin: Makes it go bad.

    Raises:
        CannotPlayError: Prometheus or Alertmanager is not installed.
        TimedOutError: Prometheus does not get the gateway's metrics.
    """
    with watched(settings):
        _await_scrape(settings, asker)
        for _ in range(_HISTORY):
            asker.ask()
        begin()
        return send_until_decided(control, asker, fault, bad)


@contextmanager
def watched(settings: Settings) -> Iterator[None]:
    """Run Prometheus and Alertmanager beside the gateway; those that run already stay."""
    check_programs(settings)
    services, _ = build_services(settings, only=("prometheus", "alertmanager"))
    stack = Stack(settings.home)
    with ExitStack() as ours:
        for service in services:
            if stack.start(service):
                ours.callback(stack.stop, service.name)
        yield


def check_programs(settings: Settings) -> None:
    """
    Make sure, before anything is trained, that the programs are here.

    Raises:
        CannotPlayError: They are not.
    """
    missing = [part.sentence for part in build_services(settings)[1] if part.name == "prometheus"]
    if missing:
        raise CannotPlayError(f"The drill 'stable' cannot be played here: {missing[0]}")


def _await_scrape(settings: Settings, asker: Asker) -> None:
    """Ask until Prometheus has the gateway's metrics: it says that it is ready before."""
    url = f"http://127.0.0.1:{settings.port_prometheus}/api/v1/query"
    end = time.monotonic() + _SCRAPE_SECONDS
    with httpx.Client(timeout=5) as http:
        while not http.get(url, params={"query": 'up{job="lastgood"} == 1'}).json()["data"]["result"]:
            asker.ask()  # at its own pace: whoever waits here is the traffic too
            if time.monotonic() > end:
                raise TimedOutError(f"Prometheus at {url} did not scrape the gateway within {_SCRAPE_SECONDS:.0f} s.")
