"""What a user writes, a `Pipeline`, and the steps it goes through: train, compress, gate, register."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastgood.pipelines.data import Data
    from lastgood.pipelines.gate_settings import GateSettings
    from lastgood.pipelines.pipeline import Pipeline

__all__ = ["Data", "GateSettings", "Pipeline"]

_HOMES = {"Data": "data", "GateSettings": "gate_settings", "Pipeline": "pipeline"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: most commands need none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
