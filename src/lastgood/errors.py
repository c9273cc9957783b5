"""
The errors a person can meet, as one tree; the exit code is the same for every caller.

    LastgoodError            1  a bug, unless a subclass says otherwise
    ├── UsageError           2  a command, request or value that cannot be right
    │   └── ConfigurationError  2  the same, read from a file or the environment
    ├── RefusedError         3  a gate said no
    │   └── TombstonedError  3  the digest was taken out as bad
    ├── NotFoundError        4  a reference that names nothing
    ├── IntegrityError       5  bytes, events or signatures that are not what was recorded
    ├── ConflictError        6  somebody else was first, or a rollout is running
    │   └── FrozenError      6  the model takes no release until a person unfreezes it
    ├── UnavailableError     7  a process or service does not answer
    │   └── TimedOutError    7  it answers, but what was waited for did not happen
    └── TakenBackError       8  the release went live and was withdrawn

Packages subclass these with a ``code`` of their own ("registry.version-not-found"). A message says what
happened, the value, what was expected and what to do.
"""

from typing import ClassVar


class LastgoodError(Exception):
    """Base of every error that lastgood raises on purpose."""

    code: ClassVar[str] = "lastgood"
    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False  # whether trying the same again later can succeed


class UsageError(LastgoodError):
    """A command, request or value that cannot be right."""

    code = "usage"
    exit_code = 2


class ConfigurationError(UsageError):
    """A setting that cannot be right, read from a file or the environment."""

    code = "configuration"


class RefusedError(LastgoodError):
    """A gate said no."""

    code = "refused"
    exit_code = 3


class TombstonedError(RefusedError):
    """The digest was taken out as bad and cannot serve until a person lifts it."""

    code = "tombstoned"


class NotFoundError(LastgoodError):
    """A reference that names nothing."""

    code = "not-found"
    exit_code = 4


class IntegrityError(LastgoodError):
    """Bytes, events or signatures that are not what was recorded."""

    code = "integrity"
    exit_code = 5


class ConflictError(LastgoodError):
    """Somebody else was first, or a rollout is running."""

    code = "conflict"
    exit_code = 6


class FrozenError(ConflictError):
    """The model takes no release until a person unfreezes it."""

    code = "frozen"


class UnavailableError(LastgoodError):
    """A process or service does not answer."""

    code = "unavailable"
    exit_code = 7
    transient = True


class TimedOutError(UnavailableError):
    """It answers, but what was waited for did not happen in time."""

    code = "timed-out"


class TakenBackError(LastgoodError):
    """The release went live and was withdrawn."""

    code = "taken-back"
    exit_code = 8
