"""The machine: Python, packages, programs, ports, room, and the token's file."""

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from lastgood.errors import ConfigurationError, LastgoodError
from lastgood.pipelines.health import Finding
from lastgood.ports import find_listener
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services

# Extra, a module that stands for it, and what cannot be done without.
_EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "train": ("tensorflow", "train, compress, gate"),
    "flows": ("prefect", "release, and everything on Prefect's pages"),
    "docker": ("docker", "replicas in containers"),
    "ci": ("jenkinsapi", "trigger jenkins"),
}
# Package, first version that does not work, and with what; found by running, their own bounds allow it.
_TRAPS: Final = (("fastapi", (0, 151), "prefect"), ("sqlalchemy", (2, 1), "prefect"))


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """Look at what a release will need of this machine."""
    yield _examine_python()
    yield from _examine_packages()
    yield from _examine_programs()
    yield from _examine_ports(settings)
    yield _examine_home(settings.home)
    yield from _examine_people(settings)
    if settings.backend == "docker":
        yield _examine_engine(settings)
    else:
        yield from _examine_providers(settings)
    for name, file in (("token", settings.token_file), ("encryption key", settings.encryption_key_file)):
        if file is not None:
            yield _examine_secret(name, file)


def _examine_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("python", "ok", f"{version}.")
    return Finding("python", "problem", f"{version}; TensorFlow has releases for 3.11 to 3.13 only.")


def _examine_packages() -> Iterator[Finding]:
    for extra, (module, use) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(f"extra {extra}", "warning", f"{module} is not installed, so no {use}: pip install 'lastgood[{extra}]'")
    for package, bad, beside in _TRAPS:
        try:
            version = metadata.version(package)
            metadata.version(beside)
        except metadata.PackageNotFoundError:
            continue
        if tuple(int(part) for part in version.split(".")[:2]) >= bad:
            limit = ".".join(map(str, bad))
            yield Finding("packages", "problem", f"{package} {version} breaks {beside}: pip install '{package}<{limit}'")


def _examine_programs() -> Iterator[Finding]:
    if shutil.which("prometheus") and (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        yield Finding("prometheus", "ok", "Prometheus and Alertmanager are installed.")
    else:
        yield Finding(
            "prometheus",
            "warning",
            "Prometheus and Alertmanager are not installed: no alerts and no history; the judge watches all the same.",
        )
    if shutil.which("git") is None:
        yield Finding("git", "warning", "git is not installed: versions will not say which commit they are from.")


def _examine_ports(settings: Settings) -> Iterator[Finding]:
    stack = Stack(settings.home)
    for service in build_services(settings)[0]:
        if stack.running(service.name) is not None:
            continue
        # The gateway has more than one, and gRPC's may be 0: none.
        own = {settings.port_grpc, settings.port_control} if service.name == "gateway" else set()
        for port in sorted({service.port, *own} - {0}):
            listener = find_listener(port)
            if listener is not None:
                sentence = f"{listener.name} listens on {port}, where {service.name} should: end it, or set another port."
                yield Finding(f"port of {service.name}", "problem", sentence)


def _examine_home(home: Path) -> Finding:
    place = next(own for own in (home, *home.parents) if own.exists())
    if os.access(place, os.W_OK | os.X_OK):
        return Finding("home", "ok", f"{home} can be written.")
    return Finding("home", "problem", f"{place} cannot be written: nothing can be kept. Set LASTGOOD_HOME to a folder of your own.")


def _examine_people(settings: Settings) -> Iterator[Finding]:
    try:
        settings.people.check_secrets()
    except ConfigurationError as exc:
        yield Finding("on call", "problem", f"{exc} Alertmanager cannot start; everything else can.")
        return
    if settings.oncall:
        yield Finding("on call", "ok", f"Told by: {', '.join(settings.people.receivers) or 'nobody'}.")


def _examine_providers(settings: Settings) -> Iterator[Finding]:
    wanted = [providers for providers in settings.serving.list_providers() if providers != ("cpu",)]
    if not wanted:
        return
    from lastgood.runtime import choose_providers

    for providers in wanted:
        try:
            choose_providers(providers)
        except ConfigurationError as exc:
            yield Finding("providers", "problem", f"{exc} The gateway does not start.")
        else:
            yield Finding("providers", "ok", f"ONNX Runtime has one of {', '.join(providers)}; `lastgood status` says which is in use.")


def _examine_engine(settings: Settings) -> Finding:
    from lastgood.serving.backends.docker_engine import Engine

    engine = Engine(settings.docker)
    try:
        engine.connect()
        engine.image_id()
    except LastgoodError as exc:
        return Finding("docker", "problem", str(exc))
    finally:
        engine.close()
    return Finding("docker", "ok", f"The engine answers and has the image {settings.docker.image}.")


def _examine_secret(name: str, file: Path) -> Finding:
    try:
        text, mode = file.read_text("utf-8").strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as exc:
        return Finding(name, "problem", f"{file} cannot be read: {exc}.")
    if not text:
        return Finding(name, "problem", f"{file} is empty.")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding(name, "warning", f"Others on this machine can read {file}: chmod 600 it.")
    return Finding(name, "ok", f"{file} is readable by its owner only.")
