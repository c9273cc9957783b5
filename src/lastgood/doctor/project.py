"""The project: every pipeline can be loaded, its gate and rollout are valid, and what starts releases is as the code here."""

import importlib.util
import os
from collections.abc import Iterator

from lastgood.errors import LastgoodError
from lastgood.pipelines.deploy import find_policy, find_predictions
from lastgood.pipelines.errors import PipelineNotFoundError
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.gate_settings import read_gate
from lastgood.pipelines.health import Finding
from lastgood.pipelines.update_settings import read_update
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import prefect_environment


def examine_pipelines(settings: Settings) -> Iterator[Finding]:
    """Load the pipeline of every model that lastgood.toml names or the registry has."""
    names = set(settings.models)
    try:
        with Registry.open(settings, writer="cli") as registry:
            names.update(registry.models())
    except LastgoodError:
        pass  # examine_serving tells what is wrong with the registry
    for name in sorted(names):
        yield _examine_pipeline(settings, name)


def _examine_pipeline(settings: Settings, name: str) -> Finding:
    own = settings.models.get(name)
    label = f"pipeline {name}"
    try:
        find_policy(settings, name)
        find_predictions(settings, name)
        found = find_pipeline(settings, name)
        read_gate(found.pipeline.gate, own.gate if own else {}, model=name)
        read_update(settings, name)
    except PipelineNotFoundError as exc:
        if own is not None and own.pipeline is not None:
            return Finding(label, "problem", str(exc))
        return Finding(label, "ok", "It has none: its versions were imported.")
    except LastgoodError as exc:
        return Finding(label, "problem", str(exc))
    return Finding(label, "ok", f"{type(found.pipeline).__name__} in {found.file.name}.")


def examine_triggers(settings: Settings) -> list[Finding]:
    """Look at the Prefect server that starts releases: this project's own, or the one PREFECT_API_URL names."""
    if importlib.util.find_spec("prefect") is None:
        return []  # examine_machine says so
    if "PREFECT_API_URL" not in os.environ and Stack(settings.home).running("prefect") is None:
        sentence = "None runs: releases work, on a temporary server that shows on no page. lastgood up prefect"
        return [Finding("prefect server", "warning", sentence)]
    from lastgood.flows.local import prefect_settings

    (settings.home / "prefect").mkdir(parents=True, exist_ok=True)
    with prefect_settings(prefect_environment(settings)):
        from lastgood.flows.readiness import examine_prefect

        return examine_prefect(settings)
