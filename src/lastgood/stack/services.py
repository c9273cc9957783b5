"""What the local stack consists of: the gateway, Prefect's server, Prometheus and Alertmanager."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from lastgood.errors import ConfigurationError
from lastgood.monitoring.signals.configuration import Signals, write_alertmanager, write_prometheus
from lastgood.settings import SECRETS, Settings
from lastgood.stack.processes import Service

PREFECT_ENVIRONMENT = {
    # Telemetry fills the log with "database is locked", and nobody asked for it.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class Missing:
    """A part of the stack that cannot run here: what is missing, how to get it, what protects the release meanwhile."""

    name: str
    sentence: str


def build_services(settings: Settings, *, only: tuple[str, ...] = ()) -> tuple[list[Service], list[Missing]]:
    """
    Give the services of the stack in the order they start, and those that cannot run here.

    Args:
        settings: Ports, home and token.
        only: Names of the services wanted; empty for all.
    """
    services = [_gateway(settings)]
    missing = []
    if importlib.util.find_spec("prefect") is not None:
        services.append(_prefect(settings))
    else:
        missing.append(Missing("prefect", "Prefect is not installed (pip install 'lastgood[flows]'): flows have no server and no pages."))
    prometheus, alertmanager = shutil.which("prometheus"), shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if prometheus and alertmanager:
        services += [_alertmanager(settings, alertmanager), _prometheus(settings, prometheus)]
    else:
        lacking = " and ".join(name for name, path in (("Prometheus", prometheus), ("Alertmanager", alertmanager)) if not path)
        missing.append(
            Missing(
                "prometheus",
                f"{lacking} not found (Debian: apt-get install prometheus prometheus-alertmanager): no alerts and no history. "
                "The judge in the gateway watches every release all the same."
                + (f" Nobody is told by {', '.join(settings.oncall)}." if settings.oncall else ""),
            )
        )
    if unknown := set(only) - {service.name for service in services} - {part.name for part in missing}:
        raise ConfigurationError(
            f"{', '.join(sorted(unknown))} is no part of the stack; expected some of: {', '.join(s.name for s in services)}."
        )
    return [service for service in services if not only or service.name in only], missing


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables that make a child process use this project's settings."""
    variables = {
        "LASTGOOD_PROJECT": str(settings.project),  # a child runs elsewhere, and what has no variable here is in the project's file
        "LASTGOOD_HOME": str(settings.home),
        # Also where they are not set: a drill's gateway must not find the ones of whoever started the drill.
        "LASTGOOD_DATABASE": settings.database_url,
        "LASTGOOD_FILES": settings.files_place,
        "LASTGOOD_HOST": settings.host,
        "LASTGOOD_BACKEND": settings.backend,
        "LASTGOOD_FRONT": settings.front.model_dump_json(),
        "LASTGOOD_DOCKER": settings.docker.model_dump_json(),
        # Only what was set: a model's default must not hide what holds for all.
        "LASTGOOD_SERVING": settings.serving.model_dump_json(exclude_unset=True),
        **{f"LASTGOOD_{name.upper()}": str(getattr(settings, name)) for name in type(settings).model_fields if name.startswith("port_")},
    }
    return variables | {f"LASTGOOD_{name.upper()}": str(file) for name in SECRETS if (file := getattr(settings, name)) is not None}


def prefect_environment(settings: Settings) -> dict[str, str]:
    """Give the variables of Prefect: its folder under ours, its server, no telemetry."""
    return {
        **PREFECT_ENVIRONMENT,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{settings.port_prefect}/api",
        "PREFECT_LOCAL_STORAGE_PATH": str(settings.home / "prefect" / "results"),
    }


def _gateway(settings: Settings) -> Service:
    return Service(
        "gateway",
        (sys.executable, "-m", "lastgood.serving.gateway"),
        settings.port_rest,
        f"{settings.rest_url}/v2",
        answers(f"{settings.control_url}/healthz"),
        environment(settings),
    )


def _prefect(settings: Settings) -> Service:
    url = f"http://127.0.0.1:{settings.port_prefect}"
    variables = {name: value for name, value in prefect_environment(settings).items() if name != "PREFECT_API_URL"}
    return Service(
        "prefect",
        (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(settings.port_prefect)),
        settings.port_prefect,
        url,
        answers(f"{url}/api/health"),
        # Its pages ask for the API at this address.
        {**variables, "PREFECT_UI_API_URL": f"{url}/api"},
        start_seconds=120,
    )


def _prometheus(settings: Settings, program: str) -> Service:
    folder = settings.home / "signals"
    url = f"http://127.0.0.1:{settings.port_prometheus}"
    return Service(
        "prometheus",
        (
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{settings.port_prometheus}",
            "--web.enable-lifecycle",
        ),
        settings.port_prometheus,
        url,
        answers(f"{url}/-/ready"),
        {},
        prepare=lambda: write_prometheus(folder, _signals(settings)),
    )


def _alertmanager(settings: Settings, program: str) -> Service:
    folder = settings.home / "signals"
    url = f"http://127.0.0.1:{settings.port_alertmanager}"
    return Service(
        "alertmanager",
        (
            program,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager-data'}",
            f"--web.listen-address=127.0.0.1:{settings.port_alertmanager}",
            "--cluster.listen-address=",  # one of it: no gossip, no second port
        ),
        settings.port_alertmanager,
        url,
        answers(f"{url}/-/ready"),
        {},
        prepare=lambda: write_alertmanager(folder, _checked(_signals(settings))),
    )


def _signals(settings: Settings) -> Signals:
    return Signals(
        gateway=f"{settings.address}:{settings.port_control}",
        alertmanager=f"127.0.0.1:{settings.port_alertmanager}",
        token_file=settings.token_file,
        oncall=settings.people,
    )


def _checked(signals: Signals) -> Signals:
    signals.oncall.check_secrets()
    return signals


def answers(url: str) -> Callable[[], bool]:
    """Give a question that is true once the URL answers with success."""

    def ask() -> bool:
        try:
            return httpx.get(url, timeout=2).is_success
        except httpx.TransportError:
            return False

    return ask
