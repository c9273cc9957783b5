"""What a client shows to be let in, and how its requests are labelled."""

from pathlib import Path
from typing import Any, Final

import httpx

from lastgood.errors import UsageError
from lastgood.serving.trust import trust
from lastgood.settings import Settings

# Kept shorter than by the gateway (75 s), so that none is used that it is about to close.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=60.0)


def read_token(path: Path | None) -> str | None:
    """
    Read a bearer token from its file.

    Raises:
        UsageError: The file cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip()
    except OSError as exc:
        raise UsageError(f"The token file {path} cannot be read: {exc.strerror}.") from exc


def make_headers(settings: Settings) -> dict[str, str]:
    """
    Give the headers that every request of this project's clients has.

    Raises:
        UsageError: The token file cannot be read.
    """
    token = read_token(settings.token_file)
    return {"authorization": f"Bearer {token}"} if token else {}


def make_options(settings: Settings, traffic: str | None) -> dict[str, Any]:
    """
    Give what an httpx client of this project's inference port is made with; how long a request may take is said with each.

    Args:
        settings: Where the gateway is, the token and whom to trust.
        traffic: A label that sets the requests apart in the metrics.

    Raises:
        UsageError: The token file cannot be read.
        ConfigurationError: Nor can the certificates.
    """
    headers = {**make_headers(settings), "accept-encoding": "identity"}
    if traffic is not None:
        headers["x-lastgood-traffic"] = traffic
    return {"base_url": settings.rest_url, "headers": headers, "verify": trust(settings), "limits": _LIMITS}
