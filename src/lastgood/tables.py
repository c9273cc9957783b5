"""Tables of settings: checked as a whole, and every problem named with its value and what is known."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lastgood.errors import ConfigurationError

Table = TypeVar("Table", bound=BaseModel)


def read_table(kind: type[Table], values: Mapping[str, Any], *, what: str) -> Table:
    """
    Check a table's values.

    Args:
        kind: What it is to become.
        values: By name; what is left out takes its default.
        what: How the message calls the table, and where it stands.

    Raises:
        ConfigurationError: A name is unknown or a value cannot be.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as exc:
        problems = "; ".join(_describe(own["loc"], own["input"], own["msg"]) for own in exc.errors())
        raise ConfigurationError(f"{what} is not valid: {problems}. Known: {', '.join(kind.model_fields)}.") from exc


def _describe(where: tuple[int | str, ...], value: object, problem: str) -> str:
    """Give one problem; of the whole table there is no value to show."""
    sentence = problem.removeprefix("Value error, ")
    return f"{'.'.join(map(str, where))} = {value!r:.80}: {sentence}" if where else sentence
