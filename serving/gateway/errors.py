"""What can be wrong with a request, or with the place it is to be answered from."""

from lastgood.errors import ConfigurationError, UnavailableError, UsageError
from lastgood.serving.backends.replica import ReplicaFailedError


class BadRequestError(UsageError):
    """A request's body that cannot be right; the message names the field."""

    code = "serving.bad-request"


class PortTakenError(UnavailableError):
    """Another process listens where the gateway is to listen."""

    code = "serving.port-taken"


class SocketFileTakenError(UnavailableError):
    """Another process listens on the socket file, or something else lies there."""

    code = "serving.socket-file-taken"


class OpenAddressError(ConfigurationError):
    """The gateway is to be reachable from other machines, and there is no token."""

    code = "serving.open-address"


class BusyError(UnavailableError):
    """More waits for a version than it can take on; it is to be tried again after ``retry_seconds``."""

    code = "serving.busy"

    def __init__(self, message: str, retry_seconds: int) -> None:
        """Keep the time beside the sentence."""
        super().__init__(message)
        self.retry_seconds = retry_seconds


class NothingUpError(UnavailableError):
    """A model is served here, and no version of it is up."""

    code = "serving.nothing-up"


class NoRoomError(UnavailableError):
    """A version sleeps, and what is up leaves no memory for it within ``loaded_bytes``."""

    code = "serving.no-room"


__all__ = [
    "BadRequestError",
    "BusyError",
    "NoRoomError",
    "NothingUpError",
    "OpenAddressError",
    "PortTakenError",
    "ReplicaFailedError",
    "SocketFileTakenError",
]
