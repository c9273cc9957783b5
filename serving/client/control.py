"""The control plane of a gateway, for the command line and flows; its errors come back as the classes they were raised as there."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from lastgood.serving.client.access import make_headers
from lastgood.serving.client.errors import DeadlineError, ForeignGatewayError, GatewayAwayError, error_of
from lastgood.settings import Settings

_WATCH_SECONDS = 10.0
_ANSWER_SECONDS = _WATCH_SECONDS + 20


class Control:
    """The control plane of the gateway that serves this project's registry."""

    def __init__(self, settings: Settings) -> None:
        """Remember the address and the token; nothing is sent yet."""
        self._url = settings.control_url
        self._registry_id = settings.registry_id
        self._known = False  # whether the gateway was asked whose it is
        self._http = httpx.Client(base_url=self._url, headers=make_headers(settings), timeout=_ANSWER_SECONDS)

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
        except httpx.ReadTimeout as exc:
            raise DeadlineError(
                f"The gateway at {self._url} did not say within {_ANSWER_SECONDS:.0f} s what came of {method} {path}; "
                "it may do it all the same. Look with: lastgood routes."
            ) from exc
        except httpx.TransportError as exc:
            raise GatewayAwayError(f"No gateway answers at {self._url} ({exc}). Start one: lastgood up.") from exc
        if response.is_success:
            value: dict[str, Any] = response.json()
            return value
        raise error_of(response)
