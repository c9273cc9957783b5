"""The project's function that says what of a row may be written, called the same way wherever a request's id goes."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lastgood.monitoring.predictions.errors import RedactionError

Redact = Callable[[dict[str, Any]], dict[str, Any]]


class Redaction:
    """Calls the function; without one everything is written as it is."""

    def __init__(self, redact: Redact | None) -> None:
        """Call this function."""
        self._redact = redact
        self._row: dict[str, Any] = {}  # the last of the answers

    def clean_answers(self, table: dict[str, Any]) -> dict[str, Any]:
        """
        Give what may be written of answers.

        Raises:
            RedactionError: The function would end the process.
            Exception: Whatever else it raises.
        """
        if self._redact is None:
            return table
        self._row = {name: copy.copy(values[-1:]) for name, values in table.items()}
        return self._call(table)

    def clean_labels(self, ids: Sequence[str], labels: Sequence[int]) -> dict[str, Any]:
        """
        Give what may be written of labels: "id" and "label", or none of it where the function gives only one of them.

        The function gets these two alone. If it looks for another column it is called again with all that answers have, each with the
        value of some answer; what it gives of those is not looked at.

        Raises:
            RedactionError: The function would end the process, or gave another number of rows.
            Exception: Whatever else it raises.
        """
        own: dict[str, Any] = {"id": list(ids), "label": list(labels)}
        if self._redact is None:
            return own
        try:
            found = self._call({name: list(values) for name, values in own.items()})
        except KeyError:
            if not self._row:
                raise
            stand_in = {
                name: np.repeat(value, len(ids), axis=0) if isinstance(value, np.ndarray) else value * len(ids)
                for name, value in self._row.items()
            }
            found = self._call(stand_in | own)
        if not own.keys() <= found.keys():
            return {}
        if len(found["id"]) != len(ids) or len(found["label"]) != len(ids):
            raise RedactionError(
                f"The project's redaction gave {len(found['id'])} ids and {len(found['label'])} labels of {len(ids)}; it must give each "
                "row, in order."
            )
        return {name: list(found[name]) for name in own}

    def _call(self, table: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._redact(table) if self._redact is not None else table
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as exc:  # SystemExit, say: the project's code does not end the observer
            raise RedactionError(f"The project's redaction raised {exc!r}; nothing of these rows is written.") from exc
