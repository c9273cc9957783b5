"""
What can be wrong with a prediction log.

    IntegrityError ── LogDamagedError
    ConfigurationError ─┬ LogMissingError
                        ├ LogTooSmallError
                        └ RedactionError
"""

from lastgood.errors import ConfigurationError, IntegrityError


class LogDamagedError(IntegrityError):
    """A file of the log is not what was written there."""

    code = "predictions.damaged"


class LogMissingError(ConfigurationError):
    """There is no log, or no library to read it with."""

    code = "predictions.missing"


class LogTooSmallError(ConfigurationError):
    """A single row is larger than the whole log may be."""

    code = "predictions.too-small"


class RedactionError(ConfigurationError):
    """The project's redaction did what no redaction does."""

    code = "predictions.redaction"
