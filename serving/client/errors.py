"""
What can go wrong between a client and its gateway, and what the gateway's statuses are here.

    UnavailableError
    ├── GatewayAwayError            nobody answers
    │   ├── DeadlineError           not in time (a TimedOutError too)
    │   └── AnswerBrokenOffError    an answer began and did not end
    ├── ModelFailedError            the model failed on this request
    └── BadAnswerError              what came is no answer of the protocol
    UsageError
    └── ClientClosedError           the client was left already
    ConflictError
    └── ForeignGatewayError         another project's gateway
"""

from collections.abc import Mapping

import httpx

from lastgood.errors import (
    ConflictError,
    FrozenError,
    IntegrityError,
    LastgoodError,
    NotFoundError,
    TimedOutError,
    TombstonedError,
    UnavailableError,
    UsageError,
)


class GatewayAwayError(UnavailableError):
    """No gateway answers where one should."""

    code = "client.gateway-away"


class DeadlineError(GatewayAwayError, TimedOutError):
    """No answer came within the time that the caller gave."""

    code = "client.deadline"


class AnswerBrokenOffError(GatewayAwayError):
    """An answer began, and the connection ended before it did."""

    code = "client.answer-broken-off"


class ModelFailedError(UnavailableError):
    """The model failed on this request, or its answer was unusable; the same request would most likely fail again."""

    code = "client.model-failed"
    transient = False


class BadAnswerError(UnavailableError):
    """What came is no answer of the Open Inference Protocol: something else listens there."""

    code = "client.bad-answer"
    transient = False


class ClientClosedError(UsageError):
    """A client was asked after its connections were closed."""

    code = "client.closed"


class ForeignGatewayError(ConflictError):
    """The gateway that answers serves another project's registry."""

    code = "client.foreign-gateway"


# What the gateway answers, and what that is here; the first class a code or status fits.
ERRORS_BY_CODE: Mapping[str, type[LastgoodError]] = {error.code: error for error in (TombstonedError, FrozenError)}
ERRORS_BY_STATUS: Mapping[int, type[LastgoodError]] = {
    400: UsageError,
    401: UsageError,
    404: NotFoundError,
    409: ConflictError,
    413: UsageError,
    414: UsageError,
    422: IntegrityError,
    431: UsageError,
    502: ModelFailedError,
    503: UnavailableError,
    504: TimedOutError,
}


def error_of(response: httpx.Response, more: str = "") -> LastgoodError:
    """
    Give the error that an answer other than success speaks of.

    Args:
        response: Read to its end.
        more: Sentences to put behind the gateway's own, such as how often it was tried.
    """
    try:
        answer = response.json()
        message, code = str(answer["error"]), str(answer.get("code", ""))
    except (ValueError, KeyError, TypeError):
        message, code = f"The gateway answered {response.status_code}: {response.text[:200]!r}.", ""
    version, role = response.headers.get("x-lastgood-version"), response.headers.get("x-lastgood-role")
    origin = f" Version {version} ({role}) said so." if version and role else ""
    kind = ERRORS_BY_CODE.get(code) or ERRORS_BY_STATUS.get(response.status_code, LastgoodError)
    return kind(f"{message}{origin}{more}")
