"""What an alert rule is, and where its page lies."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert: its PromQL, how long it must hold, and what it asks for."""

    name: str
    expression: str
    hold: str
    severity: Literal["critical", "warning", "info"]
    action: Literal["rollback", "compare", "none"]
    summary: str

    def to_yaml(self, runbooks: str) -> dict[str, Any]:
        """Give the form of a Prometheus rule file; ``runbooks`` is the folder or URL of the pages."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.hold,
            "labels": {"severity": self.severity, "action": self.action},
            "annotations": {"summary": self.summary, "runbook_url": link_runbook(runbooks, self.name)},
        }


def link_runbook(runbooks: str, name: str) -> str:
    """Give where the page of an alert is."""
    return f"{runbooks.rstrip('/')}/{name}.md"
