"""
Clients of a gateway: its control plane for the command line and flows, its data plane for whoever wants answers.

The gateway's errors come back as the same classes they were raised as there, by their code.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from lastgood.errors import (
    ConflictError,
    FrozenError,
    IntegrityError,
    LastgoodError,
    NotFoundError,
    TombstonedError,
    UnavailableError,
    UsageError,
)
from lastgood.serving.trust import trust
from lastgood.settings import Settings

# What the control plane answers, and what that is here; the first class a status or code fits.
ERRORS_BY_CODE: Mapping[str, type[LastgoodError]] = {error.code: error for error in (TombstonedError, FrozenError)}
ERRORS_BY_STATUS: Mapping[int, type[LastgoodError]] = {
    400: UsageError,
    401: UsageError,
    404: NotFoundError,
    409: ConflictError,
    422: IntegrityError,
    503: UnavailableError,
}
_WATCH_SECONDS = 10.0


class GatewayAwayError(UnavailableError):
    """No gateway answers where one should."""

    code = "client.gateway-away"


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


class ForeignGatewayError(ConflictError):
    """The gateway that answers serves another project's registry."""

    code = "client.foreign-gateway"


class Control:
    """The control plane of the gateway that serves this project's registry."""

    def __init__(self, settings: Settings) -> None:
        """Remember the address and the token; nothing is sent yet."""
        token = read_token(settings.token_file)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = settings.control_url
        self._registry_id = settings.registry_id
        self._known = False  # whether the gateway was asked whose it is
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=_WATCH_SECONDS + 20)

    def __enter__(self) -> Self:
        """Give the client; leaving closes its connections."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def ping(self) -> dict[str, Any]:
        """
        Give what the gateway says of itself.

        Raises:
            GatewayAwayError: No gateway answers.
            ForeignGatewayError: It is another project's.
        """
        answer = self._send("GET", "/healthz")
        if answer.get("registry") != self._registry_id:
            raise ForeignGatewayError(
                f"The gateway at {self._url} serves another project. Stop it there (lastgood down), or give this one ports of its own: "
                "port_rest and port_control in lastgood.toml."
            )
        self._known = True
        return answer

    def routes(self) -> list[dict[str, Any]]:
        """Give who gets what now, by model."""
        routes: list[dict[str, Any]] = self._ask("GET", "/routes")["routes"]
        return routes

    def deploy(
        self,
        ref: str,
        *,
        strategy: str,
        policy: Mapping[str, Any],
        actor: str,
        why: str,
        replace: bool = False,
        automatic: bool = False,
    ) -> dict[str, Any]:
        """Submit a rollout, one that nobody asked for if ``automatic``; give the model's state."""
        body = {"ref": ref, "strategy": strategy, "policy": dict(policy), "actor": actor, "why": why, "replace": replace}
        return self._ask("POST", "/rollouts", {**body, "automatic": automatic})

    def state(self, model: str) -> dict[str, Any]:
        """Give one model's state."""
        return self._ask("GET", f"/rollouts/{model}")

    def watch(self, model: str, *, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """Give the model's state each time something changes, until the time is over; the last one is fresh."""
        end = None if seconds is None else time.monotonic() + seconds
        state = self.state(model)
        yield state
        while end is None or time.monotonic() < end:
            wait = _WATCH_SECONDS if end is None else max(0.0, min(_WATCH_SECONDS, end - time.monotonic()))
            state = self._ask("GET", f"/rollouts/{model}", params={"wait": f"{wait:.3f}", "after": str(state["change"])})
            yield state

    def rollback(self, model: str, *, to: str | None, keep: bool, actor: str, why: str, only: str | None = None) -> dict[str, Any]:
        """Take out the candidate, else the live version; with ``only``, the candidate with that digest or nothing. Give the state."""
        return self._ask("POST", f"/rollouts/{model}/rollback", {"to": to, "keep": keep, "actor": actor, "why": why, "only": only})

    def promote(self, model: str, *, actor: str, why: str) -> dict[str, Any]:
        """End a rollout early as stable."""
        return self._ask("POST", f"/rollouts/{model}/promote", {"actor": actor, "why": why})

    def unfreeze(self, model: str, *, actor: str, why: str) -> dict[str, Any]:
        """Let a frozen model take releases again."""
        return self._ask("POST", f"/models/{model}/unfreeze", {"actor": actor, "why": why})

    def lift(self, digest: str, *, actor: str, why: str) -> str:
        """Lift a tombstone; give the whole digest."""
        return str(self._ask("POST", "/lift", {"digest": digest, "actor": actor, "why": why})["digest"])

    def quality(self, model: str) -> dict[str, Any]:
        """Give what is known of a model's answers: accuracy by labels, drift, the state of the prediction log."""
        return self._ask("GET", f"/models/{model}/quality")

    def _ask(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        if not self._known:
            self.ping()
        return self._send(method, path, body, params)

    def _send(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, params=params)
        except httpx.TransportError as exc:
            raise GatewayAwayError(f"No gateway answers at {self._url} ({exc}). Start one: lastgood up.") from exc
        if response.is_success:
            value: dict[str, Any] = response.json()
            return value
        raise _error_of(response)


def _error_of(response: httpx.Response) -> LastgoodError:
    try:
        answer = response.json()
        message, code = str(answer["error"]), str(answer.get("code", ""))
    except (ValueError, KeyError, TypeError):
        message, code = f"The gateway answered {response.status_code}: {response.text[:200]!r}.", ""
    return (ERRORS_BY_CODE.get(code) or ERRORS_BY_STATUS.get(response.status_code, LastgoodError))(message)


class Predictor:
    """Asks a gateway's data plane for answers, with JSON tensors."""

    def __init__(self, settings: Settings, *, traffic: str | None = None, seconds: float = 30.0) -> None:
        """
        Remember the address and the token.

        Args:
            settings: Where the gateway is.
            traffic: A label that sets these requests apart in the metrics, such as ``evaluation``.
            seconds: How long to wait for one answer.
        """
        token = read_token(settings.token_file)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if traffic is not None:
            headers["x-lastgood-traffic"] = traffic
        self._url = settings.rest_url
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=seconds, verify=trust(settings))

    def __enter__(self) -> Self:
        """Give the client; leaving closes its connections."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def metadata(self, model: str) -> dict[str, Any]:
        """Give what the model takes and gives."""
        return self._check(self._send("GET", f"/v2/models/{model}"))

    def infer(self, model: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Ask for one answer.

        Args:
            model: Its name.
            inputs: Open Inference Protocol tensors: name, datatype, shape, data.

        Raises:
            UsageError: The gateway says what is wrong with the inputs.
            UnavailableError: It is away, refuses for load, or the answer did not come in time.
        """
        return self._check(self.send(model, inputs))

    def send(self, model: str, inputs: list[dict[str, Any]], *, part: str | None = None) -> httpx.Response:
        """Ask for one answer and give the whole response, whatever its status; ``part`` names the slice of the traffic it is of."""
        headers = None if part is None else {"x-lastgood-slice": part}
        return self._send("POST", f"/v2/models/{model}/infer", {"inputs": inputs}, headers)

    def feed_back(self, model: str, labels: Mapping[str, int]) -> int:
        """
        Say what earlier answers should have been; give how many labels were taken.

        Args:
            model: Its name.
            labels: Classes by the ``id`` of the answers, however late and in any order.

        Raises:
            UsageError: The gateway says what is wrong with them.
            UnavailableError: It is away, or cannot take labels now.
        """
        body = {"labels": [{"id": key, "label": int(label)} for key, label in labels.items()]}
        return int(self._check(self._send("POST", f"/v2/models/{model}/feedback", body))["accepted"])

    def _send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body, headers=headers)
        except httpx.TransportError as exc:
            raise GatewayAwayError(f"No answer from {self._url} ({exc!r}). Start a gateway: lastgood up.") from exc

    @staticmethod
    def _check(response: httpx.Response) -> dict[str, Any]:
        if response.is_success:
            value: dict[str, Any] = response.json()
            return value
        raise _error_of(response)
