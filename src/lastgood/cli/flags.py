"""Flags that several commands share, once."""

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="Write JSON.")]
Why = Annotated[str, Parameter(name=["--message", "-m"], help="Why; kept in the record.")]
DryRun = Annotated[bool, Parameter(name="--dry-run", negative="", help="Say what would be done, and do nothing.")]
Tag = Annotated[bool, Parameter(name="--tag", negative="", help="Tag the commit with the version's name and digest.")]
WaitSeconds = Annotated[float, Parameter(name="--wait-seconds", help="How long to wait at most.")]
