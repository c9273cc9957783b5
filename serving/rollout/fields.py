"""The fields of a rollout policy as a table, for docs/rollout.md: ``python -m lastgood.serving.rollout.fields docs/rollout.md``."""

import re
import sys
from pathlib import Path
from typing import Final

from lastgood.errors import UsageError
from lastgood.serving.rollout.policy import RolloutPolicy

_PLACE: Final = re.compile(r"(<!-- fields -->\n).*?(<!-- /fields -->)", re.DOTALL)


def tabulate_fields() -> str:
    """Give a Markdown table: name, default, meaning."""
    lines = ["| field | default | what it is |", "| --- | --- | --- |"]
    for name, field in RolloutPolicy.model_fields.items():
        default = (
            "measured by the gate" if field.default is None else str(field.default).lower() if isinstance(field.default, bool) else None
        )
        shown = default or (str(list(field.default)) if isinstance(field.default, tuple) else f"{field.default:g}")
        lines.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def fill_in(text: str) -> str:
    """
    Put the table where a document has its place.

    Raises:
        UsageError: It has none.
    """
    filled, count = _PLACE.subn(lambda found: f"{found[1]}{tabulate_fields()}{found[2]}", text)
    if count != 1:
        raise UsageError(f"Expected one place for the fields, '<!-- fields -->' to '<!-- /fields -->'; found {count}.")
    return filled


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(fill_in(path.read_text("utf-8")), "utf-8")
