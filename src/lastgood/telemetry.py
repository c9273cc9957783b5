"""What the gateway tells of single requests: the ``[telemetry]`` table of ``lastgood.toml``."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lastgood.addresses import is_loopback

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _check_access_log(value: object) -> object:
    if value == "off" or (type(value) in {int, float} and 0 <= value <= 1):  # type: ignore[operator]
        return value
    raise ValueError('expected "off" or a share from 0 to 1')


class TelemetrySettings(BaseModel):
    """Access log and spans; both are off unless set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    access_log: Annotated[Literal["off"] | Share, BeforeValidator(_check_access_log)] = Field(
        default="off", description="share of the answers that are logged, errors always; 'off'"
    )
    access_log_bytes: int = Field(default=64 << 20, ge=1 << 16, description="that the access log and the one before may take together")
    otlp_endpoint: str | None = Field(
        default=None, description="collector for spans, OTLP over HTTP; without a path, v1/traces is meant; needs the extra otel"
    )
    otlp_plain: bool = Field(default=False, description="the endpoint may be http on another machine")
    sample: Share = Field(default=0.01, description="share of the requests without a traceparent that begin a trace")

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if self.otlp_endpoint is None:
            return self
        try:
            url = urlsplit(self.otlp_endpoint)
            host, _ = url.hostname, url.port
        except ValueError as exc:
            raise ValueError(f"otlp_endpoint = {self.otlp_endpoint!r:.80} is no URL: {exc}") from None
        if url.username is not None or url.password is not None:  # the value may be a secret, and is not said
            raise ValueError("otlp_endpoint names a user or password: secrets belong into the variable OTEL_EXPORTER_OTLP_HEADERS")
        if url.scheme not in {"http", "https"} or not host or url.query or url.fragment:
            raise ValueError(f"otlp_endpoint = {self.otlp_endpoint!r:.80} is no endpoint; expected http(s)://HOST:PORT")
        if url.scheme == "http" and not self.otlp_plain and not is_loopback(host):
            raise ValueError(
                f"otlp_endpoint = {self.otlp_endpoint!r:.80} would send paths and ids over the network in plain text; "
                "expected https, a collector on this machine, or otlp_plain = true"
            )
        return self

    @property
    def traces_url(self) -> str | None:
        """The endpoint with its path; None where nothing is sent."""
        if self.otlp_endpoint is None:
            return None
        url = urlsplit(self.otlp_endpoint)
        return url._replace(path="/v1/traces").geturl() if url.path in {"", "/"} else self.otlp_endpoint
