"""The control plane: metrics out, alerts and intents in. It translates; the conductor decides."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from lastgood import __version__
from lastgood.errors import NotFoundError, UsageError
from lastgood.serving.gateway.http.messages import Request, Response, json_response
from lastgood.serving.gateway.http.router import Router
from lastgood.serving.gateway.observation.quality import describe_quality
from lastgood.serving.gateway.rollouts.alerts import read_webhook
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.describe import describe
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.withdrawals import Reason
from lastgood.serving.rollout.policy import read_policy

T = TypeVar("T")
N = TypeVar("N", int, float)
_LONGEST_WAIT_SECONDS = 30.0


class _Deploy(msgspec.Struct, forbid_unknown_fields=True):
    ref: str
    actor: str
    why: str = ""
    strategy: Literal["canary", "direct", "shadow"] = "canary"
    policy: dict[str, Any] = {}
    replace: bool = False
    automatic: bool = False


class _Rollback(msgspec.Struct, forbid_unknown_fields=True):
    actor: str
    why: str
    to: str | None = None
    keep: bool = False
    only: str | None = None


class _Word(msgspec.Struct, forbid_unknown_fields=True):
    actor: str
    why: str


class _Lift(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    actor: str
    why: str


class ControlPlane:
    """The endpoints of one gateway's control port."""

    def __init__(self, conductor: Conductor, metrics: CollectorRegistry, *, registry_id: str, token: str | None) -> None:
        """
        Fill the router.

        Args:
            conductor: Who decides.
            metrics: What ``/metrics`` shows.
            registry_id: Names the registry that is served, so that a client of another one can tell.
            token: What callers must send; None on loopback.
        """
        self._conductor = conductor
        self._book = conductor.book
        self._metrics = metrics
        self._registry_id = registry_id
        self.router = Router(token=token, open_paths=("/healthz",))
        add = self.router.add
        add("GET", "/healthz", self.health)
        add("GET", "/metrics", self.show_metrics)
        add("POST", "/alerts", self.hear_alerts)
        add("GET", "/routes", self.list_routes)
        add("POST", "/rollouts", self.deploy)
        add("GET", "/rollouts/{model}", self.show)
        add("POST", "/rollouts/{model}/rollback", self.rollback)
        add("POST", "/rollouts/{model}/promote", self.promote)
        add("POST", "/models/{model}/unfreeze", self.unfreeze)
        add("POST", "/lift", self.lift)
        add("GET", "/models/{model}/quality", self.show_quality)

    def health(self, _: Request) -> Response:
        """Say that the gateway drives, and how many decisions the shared record lacks."""
        unrecorded = self._conductor.withdrawals.count_unrecorded()
        return json_response(
            {"version": __version__, "registry": self._registry_id, "models": len(self._book.held), "unrecorded": unrecorded}
        )

    def show_metrics(self, _: Request) -> Response:
        """Give Prometheus' text format."""
        return Response(200, generate_latest(self._metrics), content_type=CONTENT_TYPE_LATEST.encode())

    async def hear_alerts(self, request: Request) -> Response:
        """Take a webhook of Alertmanager or Grafana; say for each alert what was done about it."""
        rulings = [await self._conductor.hear(alert) for alert in read_webhook(request.body)]
        return json_response({"alerts": [{"result": ruling.result, "reason": ruling.reason} for ruling in rulings]})

    def list_routes(self, _: Request) -> Response:
        """Give every model's state."""
        return json_response({"routes": [describe(self._book, self._conductor.shelf, held) for _, held in sorted(self._book.held.items())]})

    async def deploy(self, request: Request) -> Response:
        """Begin a rollout."""
        body = _read(request, _Deploy)
        policy = read_policy(body.policy, source="the request's field 'policy'")
        intent = Intent(body.ref, body.strategy, policy, body.actor, body.why, body.replace, body.automatic)
        state = await self._conductor.submit(intent)
        return self._describe(state.model, status=202)

    async def show(self, request: Request) -> Response:
        """Give one model's state, at once or (``?wait=SECONDS&after=CHANGE``) when something changed since that change."""
        model = request.params["model"]
        self._book.known(model)
        query = parse_qs(request.query.decode("latin-1"))
        seconds = _read_number(query, "wait", float, 0.0, _LONGEST_WAIT_SECONDS)
        if seconds > 0:
            after = _read_number(query, "after", int, -1, 2**53)
            await self._book.wait_for_news(seconds, after=None if after < 0 else after)
        return self._describe(model)

    async def rollback(self, request: Request) -> Response:
        """Take out the candidate, else the live version; with ``only``, the candidate with that digest or nothing."""
        body, model = _read(request, _Rollback), request.params["model"]
        reason = Reason("person", body.actor, body.why, tombstone=not body.keep)
        await self._conductor.rollback(model, to=body.to, reason=reason, only=body.only)
        return self._describe(model)

    async def promote(self, request: Request) -> Response:
        """End a rollout early as stable."""
        body, model = _read(request, _Word), request.params["model"]
        await self._conductor.promote(model, actor=body.actor, why=body.why)
        return self._describe(model)

    async def unfreeze(self, request: Request) -> Response:
        """Let a frozen model take releases again."""
        body, model = _read(request, _Word), request.params["model"]
        await self._conductor.unfreeze(model, actor=body.actor, why=body.why)
        return self._describe(model)

    async def lift(self, request: Request) -> Response:
        """Lift a tombstone."""
        body = _read(request, _Lift)
        return json_response({"digest": await self._conductor.lift(body.digest, actor=body.actor, why=body.why)})

    def show_quality(self, request: Request) -> Response:
        """Give what is known of a model's answers: accuracy by labels, drift, the state of the prediction log."""
        model, observation = request.params["model"], self._conductor.observation
        self._book.known(model)
        known = observation.models.get(model)
        if known is None:
            raise NotFoundError(f"Nothing is known of the answers of {model!r}: no version of it has been up since the gateway began.")
        drift = observation.drifts.models.get(model)
        found = describe_quality(known, drift, floor=observation.floor(model), dropped=observation.feed.dropped[model])
        return json_response({"model": model, **found})

    def _describe(self, model: str, status: int = 200) -> Response:
        unrecorded = self._conductor.withdrawals.count_unrecorded(model)
        return json_response({**describe(self._book, self._conductor.shelf, self._book.known(model)), "unrecorded": unrecorded}, status)


def _read(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"The body of {request.method} {request.path} is not what is expected: {exc}.") from exc


def _read_number(query: Mapping[str, list[str]], name: str, kind: Callable[[str], N], least: N, most: N) -> N:
    """Read a number of the query; the least one where it is not there."""
    if name not in query:
        return least
    text = query[name][-1]
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise UsageError(f"{name}={text[:40]!r} in the query is not valid; expected a number from {least} to {most}.")
    return number
