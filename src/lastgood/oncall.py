"""
Whom to tell when something is wrong: the ``[oncall]`` tables of ``lastgood.toml``.

    [oncall]
    runbooks = "https://git.example.org/ml/lastgood/blob/main/docs/runbooks"

    [oncall.email]
    to = ["ml-oncall@example.org"]
    from = "lastgood@example.org"
    smarthost = "mail.example.org:587"
    username = "lastgood"
    password_file = "secrets/smtp-password"

    [oncall.slack]
    api_url_file = "secrets/slack-webhook"
    channel = "#ml-alerts"

    [oncall.pagerduty]
    routing_key_file = "secrets/pagerduty-key"

    [oncall.webhook]
    url = "https://hooks.example.org/lastgood"
    token_file = "secrets/webhook-token"

A secret is named by its file, never written here: Alertmanager reads the file when it sends, so that no secret is in a
configuration, a log or a process list. Relative paths start at the project.
"""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lastgood.errors import ConfigurationError

_PLAIN = re.compile(r"[!-z|~]+")  # printable, and without the braces of templates
Severity = Literal["critical", "warning", "info"]


def _check_address(value: str) -> str:
    name, _, domain = value.partition("@")
    if not name or not domain or any(character in value for character in " ,\r\n"):
        raise ValueError("expected one address such as oncall@example.org")
    return value


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0 or not _PLAIN.fullmatch(value):
        raise ValueError("expected an address that begins with https:// or http://")
    if parts.username or parts.password:
        raise ValueError("a name or password does not belong into an address; put a token into token_file")
    return value


def _check_host(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not _PLAIN.fullmatch(host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("expected HOST:PORT, such as mail.example.org:587")
    return value


def _check_channel(value: str) -> str:
    if not re.fullmatch(r"[#@CDGU][\w.-]{1,80}", value):
        raise ValueError("expected a channel such as #ml-alerts")
    return value


def _check_runbooks(value: str) -> str:
    if "://" in value or ":" in value.partition("/")[0]:
        return _check_url(value)
    if not _PLAIN.fullmatch(value):
        raise ValueError("expected a folder or an address that begins with https://")
    return value


Address = Annotated[str, AfterValidator(_check_address)]
Url = Annotated[str, AfterValidator(_check_url)]
_ALL: tuple[Severity, ...] = ("critical", "warning")


class _Receiver(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    severities: tuple[Severity, ...] = Field(default=_ALL, min_length=1, description="of the alerts that are sent there")


class Email(_Receiver):
    """``[oncall.email]``."""

    to: tuple[Address, ...] = Field(min_length=1)
    sender: Address = Field(alias="from")
    smarthost: Annotated[str, AfterValidator(_check_host)] = Field(description="HOST:PORT of the mail server")
    hello: str = Field(default="localhost", description="name that the mail server is greeted with")
    username: str | None = None
    password_file: Path | None = None
    require_tls: bool = True

    @model_validator(mode="after")
    def _both_or_none(self) -> "Email":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: set both or none")
        return self


class Slack(_Receiver):
    """``[oncall.slack]``: an incoming webhook, whose address is the secret."""

    api_url_file: Path
    channel: Annotated[str, AfterValidator(_check_channel)]


class PagerDuty(_Receiver):
    """``[oncall.pagerduty]``: a service's integration of the kind Events API v2."""

    severities: tuple[Severity, ...] = Field(default=("critical",), min_length=1)
    routing_key_file: Path
    url: Url = "https://events.pagerduty.com/v2/enqueue"


class Webhook(_Receiver):
    """``[oncall.webhook]``: anything that takes Alertmanager's JSON."""

    url: Url
    token_file: Path | None = Field(default=None, description="bearer token")


class OnCall(BaseModel):
    """The ``[oncall]`` table: who is told, and how long is waited for what belongs together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runbooks: Annotated[str, AfterValidator(_check_runbooks)] = Field(
        default="docs/runbooks", min_length=1, description="folder or URL of the runbooks, for links in alerts"
    )
    wait_seconds: float = Field(
        default=15.0, ge=0, le=600, description="before people are told: what lastgood mends meanwhile wakes nobody"
    )
    update_seconds: float = Field(default=60.0, ge=1, le=3600, description="between two messages about one incident")
    repeat_hours: float = Field(default=4.0, ge=0.1, le=168, description="until people are told again of what still goes on")
    email: Email | None = None
    slack: Slack | None = None
    pagerduty: PagerDuty | None = None
    webhook: Webhook | None = None

    @property
    def receivers(self) -> dict[str, _Receiver]:
        """Those that are set, by the name of their table."""
        every = {"email": self.email, "slack": self.slack, "pagerduty": self.pagerduty, "webhook": self.webhook}
        return {name: receiver for name, receiver in every.items() if receiver is not None}

    def resolved(self, base: Path) -> "OnCall":
        """Give the same with absolute paths."""
        changed = {}
        for name, receiver in self.receivers.items():
            paths = {field: base / path.expanduser() for field, path in _secrets(receiver).items()}
            changed[name] = receiver.model_copy(update=paths)
        return self.model_copy(update=changed)

    def check_secrets(self) -> None:
        """
        Read every secret's file once, before anything starts.

        Raises:
            ConfigurationError: One cannot be read or does not hold one line.
        """
        for name, receiver in self.receivers.items():
            for field, path in _secrets(receiver).items():
                where = f"[oncall.{name}] {field}"
                if ":/" not in str(path):  # else somebody wrote the secret where its file should stand
                    where = f"{where} = {str(path)!r}"
                try:
                    lines = path.read_text("utf-8").strip().splitlines()
                except OSError as exc:
                    raise ConfigurationError(f"{where} cannot be read: {exc.strerror}. Write the secret into that file.") from exc
                except UnicodeDecodeError as exc:
                    raise ConfigurationError(f"{where} is not text. Expected one line with the secret.") from exc
                if len(lines) != 1:
                    raise ConfigurationError(f"{where} holds {len(lines)} lines. Expected one, with the secret.")
                if field == "api_url_file" and urlsplit(lines[0]).scheme not in {"http", "https"}:
                    raise ConfigurationError(f"{where} holds no address. Expected the URL of an incoming webhook, https://….")


def _secrets(receiver: _Receiver) -> dict[str, Path]:
    return {
        name: value for name in type(receiver).model_fields if name.endswith("_file") and (value := getattr(receiver, name)) is not None
    }
