"""
What became of a build somewhere else, in this project's exit codes.

    UsageError
    ├── AccessRefusedError       401 or 403: wrong user, wrong token, or no right to do this
    └── TriggerSettingsError     an address, repository or token that cannot be right
    UnavailableError
    └── ServerAwayError          it does not answer, or not any more
    TimedOutError
    └── NotStartedError          it was never begun; what was asked for is taken back
"""

from dataclasses import dataclass
from typing import Final

from lastgood.errors import ConfigurationError, TimedOutError, UnavailableError, UsageError

# Exit codes that lastgood has; what else a build ends with says nothing about a model.
OWN_CODES: Final = frozenset(range(1, 9))
NO_ANSWER: Final = UnavailableError.exit_code
INTERRUPTED: Final = 130


class AccessRefusedError(UsageError):
    """The server does not let this user do this."""

    code = "triggers.access-refused"


class TriggerSettingsError(ConfigurationError):
    """An address, repository or token that cannot be right."""

    code = "triggers.settings"


class ServerAwayError(UnavailableError):
    """The server does not answer, or not any more."""

    code = "triggers.server-away"


class NotStartedError(TimedOutError):
    """The server took the request and never began."""

    code = "triggers.not-started"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a remote build ended."""

    server: str  # jenkins or prefect
    result: str  # in the server's word: SUCCESS, COMPLETED, …
    exit_code: int  # ours
    url: str  # of the build, for a person
    sentence: str
