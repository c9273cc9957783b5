"""How a drift monitor is set, from code or from a table of a file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lastgood.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """
    How a monitor is set.

    Attributes:
        run_length: Requests between false alarms, on average at least, for all features and outputs together.
        tolerated_sigma: How far a mean may be off without being drift, in the reference's sigma.
        margin_errors: How many standard errors of the reference are tolerated beyond that: it was estimated from finitely many rows.
        rhythm: "learn" it where the profile has none, or "none" if there is none.
        learning_days: Whole days it is learnt from.
    """

    run_length: float = 100_000
    tolerated_sigma: float = 0.05
    margin_errors: float = 3.0
    rhythm: Literal["learn", "none"] = "learn"
    learning_days: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 100 <= self.run_length <= 1e12 or not 0 <= self.tolerated_sigma <= 2 or not 0 <= self.margin_errors <= 10:
            raise ConfigurationError(
                f"Drift is set to run_length {self.run_length}, tolerated_sigma {self.tolerated_sigma} and margin_errors "
                f"{self.margin_errors}; expected 100 to 1e12 requests, 0 to 2 sigma, 0 to 10 standard errors."
            )
        if self.rhythm not in {"learn", "none"} or not 0.9 <= self.learning_days <= 31:
            raise ConfigurationError(
                f'Drift is set to rhythm {self.rhythm!r}, learning_days {self.learning_days}; expected "learn" or "none", and 1 to 31 days.'
            )

    @classmethod
    def read(cls, values: Mapping[str, Any], *, source: str) -> "DriftSettings":
        """
        Take settings by name.

        Args:
            values: As a TOML table has them; what is left out is as by default.
            source: Where they are from, for the message.

        Raises:
            ConfigurationError: A name is not known, or a value cannot be.
        """
        known = {own.name for own in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ConfigurationError(f"{source} sets {', '.join(unknown)}; the settings of drift are {', '.join(sorted(known))}.")
        numbers = {name: value for name, value in values.items() if name != "rhythm"}
        if wrong := [name for name, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int | float)]:
            raise ConfigurationError(f"{source} sets {wrong[0]} = {values[wrong[0]]!r}; expected a number.")
        return cls(**values)
