"""The data plane's REST port: the Open Inference Protocol's paths, and what each of them asks of the reception."""

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import lastgood
from lastgood.serving.gateway.errors import NothingUpError
from lastgood.serving.gateway.http.listening import check_guarded
from lastgood.serving.gateway.http.messages import Head, Request, Respond, Response, json_response
from lastgood.serving.gateway.http.router import Router
from lastgood.serving.gateway.http.server import Server
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.observation.feedback import read_feedback
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rest import Address, infer, read_address
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

EXTENSIONS: Final = ["binary_tensor_data"]
HEALTH_PATHS: Final = ("/v2/health/live", "/v2/health/ready")


class DataPlane:
    """Owns the inference port; belongs to one event loop."""

    def __init__(
        self,
        reception: Reception,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        limits: HttpLimits | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        socket_file: Path | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """
        Prepare; `start` listens.

        Args:
            reception: Where requests go.
            host: Address to listen on.
            port: 0 takes a free one, see `port`.
            limits: What one connection may ask for.
            token: What callers must send as a bearer token.
            tls: The port speaks TLS with it.
            socket_file: Where to listen besides, for this user's processes.
            telemetry: Is told of every request.

        Raises:
            OpenAddressError: The address is not loopback and there is no token.
        """
        check_guarded(host, token)
        self._reception = reception
        self._server = Server(self._make_router(token), host, port, limits, tls=tls, socket_file=socket_file, telemetry=telemetry)

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
        """Whether every model has a version that answers its traffic, woken for it if need be, and the port is not being closed."""
        return not self._server.draining and self._reception.ready

    async def drain(self, grace_seconds: float = 30.0) -> None:
        """Take no more connections, answer what came in, close."""
        await self._server.stop(grace_seconds)

    def _make_router(self, token: str | None) -> Router:
        router = Router(token=token, open_paths=HEALTH_PATHS)
        router.add("GET", "/v2", lambda _: json_response({"name": "lastgood", "version": lastgood.__version__, "extensions": EXTENSIONS}))
        router.add("GET", "/v2/health/live", lambda _: json_response({"live": True}))
        router.add("GET", "/v2/health/ready", lambda _: json_response({"ready": self.ready}, 200 if self.ready else 503))
        router.add("POST", "/v2/models/{model}/feedback", self._take_labels)
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            router.add("GET", path, self._describe)
            router.add("GET", f"{path}/ready", self._tell_ready)
            router.add_callback("POST", f"{path}/infer", self._infer, self._prepare)
        return router

    def _prepare(self, head: Head, params: Mapping[str, str]) -> Address:
        return read_address(head.headers, params, self._reception.label_traffic(head.headers.get(b"x-lastgood-traffic")))

    def _infer(self, request: Request, respond: Respond) -> None:
        del respond
        infer(self._reception, request, request.params)

    def _describe(self, request: Request) -> Response:
        return json_response(self._reception.describe(request.params["model"], request.params.get("version")))

    def _tell_ready(self, request: Request) -> Response:
        lane = self._reception.find_lane(request.params["model"], request.params.get("version"))
        ready = lane.pool.inviting
        return json_response({"name": lane.pool.model, "ready": ready}, 200 if ready else 503)

    def _take_labels(self, request: Request) -> Response:
        route = self._reception.find_route(request.params["model"])
        feedback = read_feedback(request.body, route.main.pool.content)
        ids, labels = [own.id for own in feedback.labels], [own.label for own in feedback.labels]
        on_labels = self._reception.on_labels
        if on_labels is None or not on_labels(route.model, ids, labels, time.time()):
            raise NothingUpError("Labels cannot be taken now: what joins them to answers is starting or behind; try again.")
        return json_response({"accepted": len(ids)}, 202)
