"""
The data plane: REST requests in, dealt to lanes, answered by replicas.

It knows routes and pools and nothing about why they change; the conductor puts a whole `Route` in place with one
assignment.
"""

import asyncio
import itertools
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import lastgood
from lastgood.errors import LastgoodError, NotFoundError
from lastgood.serving.gateway.binary import HEAD_BYTES
from lastgood.serving.gateway.errors import BadRequestError, NothingUpError, OpenAddressError
from lastgood.serving.gateway.feedback import read_feedback
from lastgood.serving.gateway.http import Server
from lastgood.serving.gateway.inference import RETRY, Copy, Desk, Inference
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.messages import Request, Respond, Response, error_response, json_response
from lastgood.serving.gateway.meters import RoleMeter, TrafficLabels
from lastgood.serving.gateway.metrics import PlaneCollector
from lastgood.serving.gateway.pool import ReplicaPool, takes_same
from lastgood.serving.gateway.protocol import Codec
from lastgood.serving.gateway.route import Lane, Route, Tally
from lastgood.serving.gateway.router import Router, find_status
from lastgood.settings import is_loopback

OnLabels = Callable[[str, Sequence[str], Sequence[int], float], bool]  # model, request ids, labels, Unix time
EXTENSIONS: Final = ["binary_tensor_data"]
HEALTH_PATHS: Final = ("/v2/health/live", "/v2/health/ready")


class DataPlane:
    """Owns the inference port; belongs to one event loop."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        limits: HttpLimits | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        socket_file: Path | None = None,
    ) -> None:
        """
        Prepare; `start` listens.

        Args:
            host: Address to listen on.
            port: 0 takes a free one, see `port`.
            limits: What one connection may ask for.
            token: What callers must send as a bearer token.
            tls: The port speaks TLS with it.
            socket_file: Where to listen besides, for this user's processes.

        Raises:
            OpenAddressError: The address is not loopback and there is no token.
        """
        if token is None and not is_loopback(host):
            raise OpenAddressError(f"{host} can be reached from other machines: set token_file, or listen on 127.0.0.1.")
        self.routes: dict[str, Route] = {}
        self.pools: dict[tuple[str, int], ReplicaPool] = {}
        self.collector = PlaneCollector(self.pools.values)
        self._router = self._make_router(token)
        self._server = Server(self._handle, host, port, limits, tls=tls, socket_file=socket_file)
        self._infer_paths: dict[str, str] = {}  # path to model
        self._direct: dict[tuple[str, int], Lane] = {}
        self._codecs: dict[tuple[str, int], Codec] = {}
        self._suspended: set[str] = set()
        self._traffic = TrafficLabels("production")
        self._slices: dict[str, TrafficLabels] = {}
        self.on_labels: OnLabels | None = None  # takes labels of requests; says whether it could
        self._ids = itertools.count(1)
        self._serials = itertools.count(1)
        self._id_prefix = secrets.token_hex(4)

    # --- what the conductor does ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Listen.

        Raises:
            PortTakenError: Another process listens there.
        """
        await self._server.start()

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port

    @property
    def ready(self) -> bool:
        """Whether every model has a ready version for its traffic, and the port is not being closed."""
        return not self._server.draining and not self._suspended and all(route.main.pool.ready for route in self.routes.values())

    def add_pool(self, pool: ReplicaPool) -> None:
        """Know a version's replicas; it gets traffic when a route says so."""
        key = (pool.model, pool.number)
        self.pools[key] = pool
        self._codecs[key] = Codec(pool.model, pool.number, pool.content, joins=pool.joins)
        # No role and no one's evidence: whoever names a version takes no part in a rollout.
        self._direct[key] = Lane(pool, "live", Tally(), float("inf"))

    def remove_pool(self, pool: ReplicaPool) -> None:
        """Forget a version's replicas; what was submitted is still answered, see `ReplicaPool.stop`."""
        key = (pool.model, pool.number)
        if self.pools.get(key) is pool:
            del self.pools[key], self._codecs[key], self._direct[key]
            self.collector.retire(pool)

    def set_route(self, route: Route) -> None:
        """Put a route in place; requests already dealt keep their lane. The pools of its lanes were added before."""
        self._suspended.discard(route.model)
        self.routes[route.model] = route
        self._slices.setdefault(route.model, TrafficLabels("", limit=17))  # with the one without a name
        self._infer_paths[f"/v2/models/{route.model}/infer"] = route.model

    def suspend(self, model: str) -> None:
        """Keep a model's name while nothing of it is up: whoever asks is told to try again, and the port is not ready."""
        self.remove_route(model)
        self._suspended.add(model)

    def remove_route(self, model: str) -> None:
        """Serve a model no more; removing what is not there changes nothing."""
        self._suspended.discard(model)
        self.routes.pop(model, None)
        self._infer_paths.pop(f"/v2/models/{model}/infer", None)

    async def drain(self, grace_seconds: float = 30.0) -> None:
        """Take no more connections, answer what came in, close."""
        await self._server.stop(grace_seconds)

    # --- requests ------------------------------------------------------------------------------------------------

    def _handle(self, request: Request, respond: Respond) -> None:
        model = self._infer_paths.get(request.path)
        if model is not None and request.method == "POST" and self._router.allows(request):
            self._infer(request, self.routes[model].assign())
        else:
            self._router(request, respond)

    def _infer(self, request: Request, lane: Lane) -> None:
        pool = lane.pool
        key = (pool.model, pool.number)
        known = self.pools.get(key)
        if known is None:
            request.respond(error_response(503, f"{pool.model}@{pool.number} is not up; try again.", extra=RETRY))
            return
        meter = known.meter.role(lane.role)
        traffic = self._traffic.label(request.headers.get(b"x-lastgood-traffic"))
        refusal = known.refusal()
        if refusal is not None:
            meter.count(traffic, "refused")
            request.respond(error_response(503, refusal, extra=RETRY))
            return
        codec = self._codecs[key]
        try:
            call = codec.decode(request.body, request.headers.get(b"content-encoding"), request.headers.get(HEAD_BYTES))
            nothing = codec.signature.answer_nothing() if call.rows == 0 else None
        except BadRequestError as exc:
            meter.count(traffic, "bad_request")
            request.respond(error_response(400, str(exc)))
            return
        now = asyncio.get_running_loop().time()
        request_id = call.id if call.id is not None else f"{self._id_prefix}-{next(self._ids):x}"
        named = request.headers.get(b"x-lastgood-slice")
        part = "" if named is None else self._slices[pool.model].label(named)
        pending = Inference(
            lane, call, now, now + known.limits.deadline_seconds, request, request_id, Desk(codec, meter), self.find_desk, traffic, part
        )
        if nothing is not None:
            pending.answer(nothing, 0, 0)
            return
        request.on_disconnect = pending.abandon
        pool.submit(pending)
        if lane.copies_to is not None:
            self._copy(pending, lane.copies_to)

    def _copy(self, pending: Inference, shadow: Lane) -> None:
        known = self.pools.get((shadow.pool.model, shadow.pool.number))
        if known is not None and takes_same(shadow.pool.content, pending.lane.pool.content):
            pending.serial = next(self._serials)
            shadow.pool.submit(Copy(pending, shadow, known.meter.role("shadow")))

    def find_desk(self, lane: Lane) -> Desk:
        """Give what writes and counts the answers of the version a lane leads to, also when it was removed a moment ago."""
        pool = lane.pool
        key = (pool.model, pool.number)
        known = self.pools.get(key)
        if known is None:
            return Desk(Codec(pool.model, pool.number, pool.content, joins=False), RoleMeter())
        return Desk(self._codecs[key], known.meter.role(lane.role))

    # --- the rest of the protocol --------------------------------------------------------------------------------

    def _make_router(self, token: str | None) -> Router:
        router = Router(token=token, open_paths=HEALTH_PATHS)
        router.add("GET", "/v2", lambda _: json_response({"name": "lastgood", "version": lastgood.__version__, "extensions": EXTENSIONS}))
        router.add("GET", "/v2/health/live", lambda _: json_response({"live": True}))
        router.add("GET", "/v2/health/ready", lambda _: json_response({"ready": self.ready}, 200 if self.ready else 503))
        router.add("GET", "/v2/models/{model}", self._describe)
        router.add("GET", "/v2/models/{model}/ready", self._tell_ready)
        router.add("GET", "/v2/models/{model}/versions/{version}", self._describe)
        router.add("GET", "/v2/models/{model}/versions/{version}/ready", self._tell_ready)
        router.add_callback("POST", "/v2/models/{model}/infer", self._infer_model)
        router.add("POST", "/v2/models/{model}/feedback", self._take_labels)
        router.add_callback("POST", "/v2/models/{model}/versions/{version}/infer", self._infer_version)
        return router

    def _describe(self, request: Request) -> Response:
        route = self._route(request)
        lane = self._lane(request, route)
        return json_response(self.find_desk(lane).codec.metadata([lane.pool.number for lane in _lanes(route)]))

    def _tell_ready(self, request: Request) -> Response:
        lane = self._lane(request, self._route(request))
        ready = lane.pool.ready
        return json_response({"name": lane.pool.model, "ready": ready}, 200 if ready else 503)

    def _infer_model(self, request: Request, respond: Respond) -> None:
        """Answer where `_handle` did not: the model's name was percent-encoded, or there is no such model."""
        try:
            route = self._route(request)
        except LastgoodError as exc:
            respond(_refuse(exc))
            return
        self._infer(request, route.assign())

    def _infer_version(self, request: Request, respond: Respond) -> None:
        try:
            lane = self._lane(request, self._route(request))
        except LastgoodError as exc:
            respond(_refuse(exc))
            return
        self._infer(request, self._direct.get((lane.pool.model, lane.pool.number), lane))

    def _take_labels(self, request: Request) -> Response:
        route = self._route(request)
        feedback = read_feedback(request.body, route.main.pool.content)
        ids, labels = [own.id for own in feedback.labels], [own.label for own in feedback.labels]
        if self.on_labels is None or not self.on_labels(route.model, ids, labels, time.time()):
            raise NothingUpError("Labels cannot be taken now: what joins them to answers is starting or behind; try again.")
        return json_response({"accepted": len(ids)}, 202)

    def _route(self, request: Request) -> Route:
        model = request.params["model"]
        route = self.routes.get(model)
        if model in self._suspended:
            raise NothingUpError(f"No version of {model!r} is up; try again. Whoever runs the gateway sees why: lastgood status.")
        if route is None:
            known = ", ".join(sorted(self.routes)) or "none"
            raise NotFoundError(f"No model {model[:80]!r} is served here; there are: {known}.")
        return route

    def _lane(self, request: Request, route: Route) -> Lane:
        version = request.params.get("version")
        if version is None:
            return route.main
        for lane in _lanes(route):
            if str(lane.pool.number) == version:
                return lane
        known = ", ".join(str(lane.pool.number) for lane in _lanes(route))
        raise NotFoundError(f"{route.model} has no version {version[:20]!r} in its route; there are: {known}.")


def _refuse(error: LastgoodError) -> Response:
    """Give the answer for an error; what may pass is to be tried again."""
    return error_response(find_status(error), str(error), extra=RETRY if error.transient else b"")


def _lanes(route: Route) -> list[Lane]:
    # While a shadow gets copies, the second lane is the same version's.
    return [route.main] if route.candidate is None or route.candidate.pool is route.main.pool else [route.main, route.candidate]
