"""
What can be wrong with a profile, or with rows that are compared with one.

    IntegrityError
    └── ProfileDamagedError  bytes that are no profile, or a monitor's state that is not of this profile
    UsageError
    └── RowsMismatchError    rows that are not of the inputs and outputs the profile was made of
"""

from lastgood.errors import IntegrityError, UsageError


class ProfileDamagedError(IntegrityError):
    """Bytes that are no reference profile, or a state that does not belong to one."""

    code = "drift.profile-damaged"


class RowsMismatchError(UsageError):
    """Rows that are not of the inputs and outputs a profile was made of."""

    code = "drift.rows-mismatch"
