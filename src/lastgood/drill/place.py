"""The throwaway place of a drill: a project, a registry with two versions, free ports."""

import shutil
import sys
from pathlib import Path
from typing import Final

from lastgood.pipelines.child import run_step
from lastgood.pipelines.progress import OnProgress
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.replicas import ServingSettings
from lastgood.settings import PROJECT_FILE, SECRETS, FrontSettings, Settings, load_settings
from lastgood.stack.processes import Service
from lastgood.stack.services import answers, environment

MODEL: Final = "drill"
_PROJECT = '[models.drill]\npipeline = "lastgood.drill.pipeline:Drill"\n'
# The second version is another model, not the first one's bytes again: those would be the same version.
VARIATIONS: Final[tuple[dict[str, str], ...]] = ({}, {"inverse_regularization": "0.5"})


def make_versions(folder: Path, on_progress: OnProgress) -> tuple[Run, list[Version]]:
    """Train, gate and register two good versions; give a run, for its evaluation rows, and the versions."""
    folder.mkdir(parents=True)
    (folder / PROJECT_FILE).write_text(_PROJECT, "utf-8")
    settings = settings_in(folder)
    versions = []
    for overrides in VARIATIONS:
        run = create_run(settings, MODEL, overrides={"recipe": "fp32", **overrides}, seed=1, why="a drill", author="drill")
        for step in ("train", "compress", "gate"):
            run_step(run, step, on_progress)
        with Registry.open(settings, writer="cli") as registry:
            versions.append(register(run, registry))
    return run, versions


def settings_in(folder: Path) -> Settings:
    """Give the settings of the drill's project, whatever the environment says, on ports that are free now."""
    rest, control, prometheus, alertmanager = free_ports(4)
    settings = load_settings(folder)
    fresh = {
        "project": folder,
        "home": folder / ".lastgood",
        "database": None,
        "files": None,
        **dict.fromkeys(SECRETS),
        "host": "127.0.0.1",
        "front": FrontSettings(),
        "serving": ServingSettings(),  # what a drill shows was measured with one replica
        "backend": "process",
        "port_rest": rest,
        "port_grpc": 0,
        "port_control": control,
        "port_prometheus": prometheus,
        "port_alertmanager": alertmanager,
    }
    return settings.model_copy(update=fresh)


def copy_place(origin: Path, folder: Path) -> Settings:
    """Copy the project with its registry, so that one training serves many drills; give its settings."""
    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns("runs", "gateway", "stack", "logs"))
    return settings_in(folder)


def gateway_service(settings: Settings, digest: str, fault: str, seed: int, switch: Path) -> Service:
    """Give the gateway whose replicas meet the fault when they serve the digest; one that waits begins when the switch's file is there."""
    return Service(
        "gateway",
        (sys.executable, "-m", "lastgood.drill.gateway", digest, fault, str(seed), str(switch)),
        settings.port_rest,
        settings.rest_url,
        answers(f"{settings.control_url}/healthz"),
        environment(settings),
    )
