"""
The standard health service: the port's readiness, for the whole server and for its inference service by name.

Source: gRPC, "GRPC Health Checking Protocol".
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lastgood.serving.gateway.changes import Changes
from lastgood.serving.gateway.grpc.service import STOPPING

NAME: Final = "grpc.health.v1.Health"
_Status: Final = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Says whether the services serve, as of now; belongs to one event loop."""

    def __init__(self, services: Iterable[str], is_ready: Callable[[], bool], changes: Changes) -> None:
        """
        Answer for services that are all ready or none.

        Args:
            services: Their full names; the empty one, which stands for the server, is known besides.
            is_ready: Whether they are, now.
            changes: Tells when that may have changed.
        """
        self._services = frozenset({"", *services})
        self._is_ready = is_ready
        self._changes = changes
        self._closing = False

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  # as the protocol calls it
        """Say it once."""
        if request.service not in self._services:
            known = ", ".join(sorted(self._services - {""}))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service[:80]!r} here; there are: {known}.")
        return _Status(status=self._find_status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Say it now and after each change, until the client goes or this side stops."""
        told = None
        while True:
            now = self._find_status(request.service)
            if now != told:
                told = now
                await context.write(_Status(status=now))
                continue  # it may have changed meanwhile
            if self._closing:
                await context.abort(STOPPING.code, STOPPING.details, STOPPING.metadata)
            await self._changes.wait()

    def close(self) -> None:
        """Tell those who watch that nothing is served any more, and let them go: a stream without an end would hold up the server's."""
        self._closing = True
        self._changes.tell()

    def _find_status(self, service: str) -> Any:
        if service not in self._services:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._is_ready() and not self._closing else _Status.NOT_SERVING
