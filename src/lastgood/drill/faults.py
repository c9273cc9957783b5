"""
The faults a drill can play: what each does to a version that is sound until it was proven, and what must come of it.

A table and nothing else, so that the command line can show it without importing what plays it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lastgood.errors import UsageError

Harm = Literal["unusable", "late", "wrong"]
Course = Literal["rollout", "both", "stable"]


class UnknownFaultError(UsageError):
    """A fault that no drill plays."""

    code = "drill.unknown-fault"


@dataclass(frozen=True, slots=True)
class Expected:
    """How a drill must end: withdrawn by the judge because of one of some kinds of events, by an alert, or not at all."""

    by: Literal["judge", "alert"] | None
    kind: str | None = None  # of events; None where the judge does not decide
    drift: bool = False  # whether drift must be reported
    also: str | None = None  # another kind that is as right, where a fault shows in two ways

    def __str__(self) -> str:
        """Say it in words, as `tell_end` says what was found."""
        return tell_end(self.by, self.kind, drift=self.drift) + (f" or {self.also}" if self.also else "")

    def fits(self, by: str | None, kind: str | None, *, drift: bool = False) -> bool:
        """Say whether a drill that ended like this ended as it must."""
        ways = {tell_end(self.by, own, drift=self.drift) for own in (self.kind, self.also or self.kind)}
        return tell_end(by, kind, drift=drift) in ways


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    name: str
    does: str  # half a sentence, for a table
    expected: Expected
    found_by: str
    harm: Harm = "unusable"  # which answers count as bad
    course: Course = "rollout"  # when it comes: with the bad version's share; on both versions; once the bad one is stable
    labels: bool = False  # whether every answer's label is sent as feedback
    history: int = 0  # requests to the good version before the bad one comes: what is normal must be known
    most_requests: int = 2_000  # after which a drill in which nothing is decided has failed
    per_second: float | None = None  # requests; None: as fast as the answers come
    here: bool = True  # whether it can lie in the version's file, so that a gateway of the product meets it


_BROKEN, _SLOW, _DEATHS, _WRONG = (Expected("judge", kind) for kind in ("broken", "slow", "deaths", "wrong"))

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("dead", "every request fails", _BROKEN, "the answers' statuses"),
        Fault("nan", "every answer is not a number", _BROKEN, "a look at every answer"),
        Fault("errors", "2 % of the requests fail", _BROKEN, "the answers' statuses", most_requests=40_000),
        Fault("slow", "every answer takes 20 times as long", _SLOW, "the compute time of every batch", harm="late", history=200),
        Fault("wrong", "one answer in ten is another class", _WRONG, "labels", harm="wrong", labels=True, most_requests=40_000),
        Fault("flipped", "two classes are swapped in one slice", _WRONG, "labels", harm="wrong", labels=True, most_requests=60_000),
        Fault(
            "leak",
            "memory grows with each request until the process is killed",
            replace(_DEATHS, also="slow"),  # taking memory takes time, and which one shows first depends on the machine
            "the replicas' deaths, or the compute time of every batch",
            most_requests=60_000,
            per_second=100.0,
            here=False,
        ),
        Fault(
            "crash",
            "one request in twenty ends the process",
            _DEATHS,
            "the replicas' deaths",
            most_requests=60_000,
            per_second=100.0,
            here=False,
        ),
        Fault(
            "drift",
            "the inputs change, for both versions alike",
            Expected(None, drift=True),
            "the inputs",
            course="both",
            most_requests=4_000,
        ),
        Fault(
            "stable",
            "every request fails, but only once the version is stable",
            Expected("alert"),
            "Prometheus and Alertmanager",
            course="stable",
            history=200,
            most_requests=4_000,
            per_second=100.0,
        ),
    )
}


def find_fault(name: str) -> Fault:
    """
    Give a fault by its name.

    Raises:
        UnknownFaultError: There is none of this name.
    """
    if name not in FAULTS:
        raise UnknownFaultError(f"There is no fault {name!r}; expected one of: {', '.join(FAULTS)}.")
    return FAULTS[name]


def tell_end(by: str | None, kind: str | None, *, drift: bool = False) -> str:
    """Say how a version's rollout ended: by whom it was withdrawn and because of which events, or that drift was reported."""
    match by:
        case None:
            return f"not withdrawn{', drift reported' if drift else ''}"
        case "judge":
            return f"withdrawn by the judge: {kind}"
        case "alert":
            return "withdrawn by an alert"
        case _:
            return f"withdrawn: {by}"
