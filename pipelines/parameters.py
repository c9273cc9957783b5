"""``--set name=value``: parameters as typed by a person, checked against the pipeline's defaults."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lastgood.compression.recipes import AUTO, RECIPES
from lastgood.pipelines.errors import ParameterError

RECIPE = "recipe"
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def join_parameters(defaults: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """
    Put typed values over a pipeline's defaults.

    Every pipeline has ``recipe`` besides its own parameters: ``auto``, or the compression recipe to use.

    Raises:
        ParameterError: A name the pipeline does not have, or a value not of the default's type.
    """
    joined: dict[str, Any] = {RECIPE: AUTO, **defaults}
    for name, text in overrides.items():
        if name not in joined:
            raise ParameterError(f"There is no parameter {name!r}; the pipeline has {', '.join(sorted(joined))}.")
        joined[name] = _parse(name, text, joined[name])
    if joined[RECIPE] != AUTO and joined[RECIPE] not in RECIPES:
        raise ParameterError(f"There is no recipe {joined[RECIPE]!r}; expected {AUTO}, {', '.join(RECIPES)}.")
    return joined


def _parse(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return _parse_bool(text)
        if kind in (int, float, str):
            return _parse_finite(text) if kind is float else kind(text)
        value = json.loads(text)
    except ValueError as exc:
        raise ParameterError(f"{name}={text!r} is not {_named(default)}; the default is {default!r}.") from exc
    if default is not None and not isinstance(value, kind):
        raise ParameterError(f"{name}={text!r} is not {_named(default)}; the default is {default!r}.")
    return value


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)


def _named(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a finite number", list: "a JSON list", dict: "a JSON object"}
    return names.get(type(default), "JSON")


def parse_overrides(texts: Sequence[str]) -> dict[str, str]:
    """
    Split ``name=value`` texts, or several in one with a line each, as CI servers hand them over; of one name given twice, the last counts.

    Raises:
        ParameterError: A text without ``=`` or without a name.
    """
    split = {}
    for text in (line for own in texts for line in own.splitlines() or [own] if line.strip() or not own.strip()):
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ParameterError(f"--set {text!r} is no parameter; expected NAME=VALUE, such as --set epochs=5.")
        split[name.strip()] = value.strip()
    return split
