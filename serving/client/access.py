"""What a client shows to be let in, how its requests are labelled, and how many connections it has."""

from pathlib import Path
from typing import Final

import httpx

from lastgood.errors import UsageError
from lastgood.serving.client.errors import ClientClosedError
from lastgood.settings import Settings

CONNECTIONS: Final = 16  # at once; httpx looks through all of them for each request, so that more of them make it slower
IDLE_SECONDS: Final = 60.0  # shorter than the gateway keeps a connection (75 s), so that none is used that it is about to close


def read_token(path: Path | None) -> str | None:
    """
    Read a bearer token from its file.

    Raises:
        UsageError: The file cannot be read, or holds no token: without one, everybody would be let in.
    """
    if path is None:
        return None
    try:
        token = path.read_text("ascii").strip()
    except OSError as exc:
        raise UsageError(f"The token file {path} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"The token file {path} holds something else than a token: expected letters, digits and signs in ASCII.") from exc
    if not token:
        raise UsageError(f"The token file {path} is empty; expected a token, such as `openssl rand -hex 32` writes.")
    if not all("!" <= sign <= "~" for sign in token):
        raise UsageError(f"The token file {path} holds more than one word or line; expected one token.")
    return token


def make_headers(settings: Settings, traffic: str | None = None) -> dict[str, str]:
    """
    Give the headers that every request of this project's clients has.

    Args:
        settings: Where the token is.
        traffic: A label that sets the requests apart in the metrics.

    Raises:
        UsageError: The token file cannot be read.
    """
    token = read_token(settings.token_file)
    headers = {"accept-encoding": "identity"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if traffic is not None:
        headers["x-lastgood-traffic"] = traffic
    return headers


def check_count(connections: int) -> int:
    """
    Give how many connections a client may have.

    Raises:
        UsageError: There are none.
    """
    if connections < 1:
        raise UsageError(f"A client with {connections} connections reaches nobody; expected 1 or more.")
    return connections


def check_open(client: httpx.Client | httpx.AsyncClient) -> None:
    """
    Refuse to ask over connections that were closed.

    Raises:
        ClientClosedError: They were.
    """
    if client.is_closed:
        raise ClientClosedError("This client is closed: its `with` block has ended. Ask inside of the block, or make another client.")
