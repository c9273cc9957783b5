"""Who gives the command, for the record."""

import os
from getpass import getuser


def who() -> str:
    """Give the login name; in a container without one, the user's number."""
    try:
        return getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return f"user {os.getuid()}"
