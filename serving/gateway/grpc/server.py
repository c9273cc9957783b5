"""The data plane's gRPC port: what listens, within which limits, and how it ends."""

from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lastgood.errors import ConfigurationError
from lastgood.serving.gateway.grpc.guard import Guard
from lastgood.serving.gateway.grpc.health import NAME as HEALTH
from lastgood.serving.gateway.grpc.health import Health
from lastgood.serving.gateway.grpc.messages import POOL, SERVICE
from lastgood.serving.gateway.grpc.service import InferenceService
from lastgood.serving.gateway.http.listening import check_guarded, check_port, load_tls
from lastgood.serving.gateway.limits import GrpcLimits
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

_IDENTITY: Final = 1  # the bit of messages as they are


class GrpcServer:
    """Owns the gRPC port; belongs to one event loop."""

    def __init__(
        self,
        reception: Reception,
        host: str = "127.0.0.1",
        port: int = 8001,
        *,
        limits: GrpcLimits | None = None,
        token: str | None = None,
        tls: tuple[Path, Path] | None = None,
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
            tls: PEM files of a certificate and its key; the port speaks TLS with them.
            telemetry: Is told of each inference.

        Raises:
            OpenAddressError: The address is not loopback and there is no token.
            ConfigurationError: The files are no pair that TLS can be spoken with.
        """
        check_guarded(host, token)
        self.port = port
        self._host = host
        self._limits = limits or GrpcLimits()
        self._token = token
        self._credentials = None if tls is None else _load_credentials(*tls)
        self._service = InferenceService(reception, telemetry)
        self._health = Health([SERVICE], lambda: self._service.ready, reception.changes)
        self._server: Any = None

    async def start(self) -> None:
        """
        Listen.

        Raises:
            PortTakenError: Another process listens there; names it where the system tells.
            ConfigurationError: The address is none of this machine's.
        """
        check_port(self._host, self.port)  # gRPC does not say who has it
        guards = () if self._token is None else (Guard(self._token),)
        server = grpc.aio.server(interceptors=guards, options=_list_options(self._limits))
        server.add_generic_rpc_handlers((self._service.make_handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _reflect(server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self.port}"
        try:
            tls = self._credentials
            port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls)
        except RuntimeError as exc:
            await server.stop(None)
            check_port(self._host, self.port)  # somebody was faster
            raise ConfigurationError(f"gRPC cannot listen on {address}: {exc}. Expected an address of this machine.") from exc
        await server.start()
        self.port, self._server = port, server

    @property
    def ready(self) -> bool:
        """Whether every model has a ready version for its traffic, and the port is not being closed."""
        return self._service.ready

    async def drain(self, grace_seconds: float = 30.0) -> None:
        """Take no more calls, answer what came in, close."""
        if self._server is None:
            return
        server, self._server = self._server, None
        self._health.close()
        await self._service.drain(grace_seconds)
        await server.stop(self._limits.linger_seconds)


def _load_credentials(certificate: Path, key: Path) -> Any:
    load_tls(certificate, key)  # what is wrong with them it says in a sentence, and gRPC when the first client comes
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _list_options(limits: GrpcLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two gateways must not share a port unseen
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        ("grpc.max_concurrent_streams", limits.calls),
        ("grpc.server.max_pending_requests", limits.pending),
        ("grpc.server.max_pending_requests_hard_limit", limits.pending),
        # A compressed message is measured before it is unpacked: one of some KiB would fill the memory.
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY),
        ("grpc.keepalive_time_ms", int(limits.ping_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.pong_seconds * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.client_ping_seconds * 1000)),
    ]


def _reflect(server: Any) -> None:
    """Say to tools what can be called here."""
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        POOL.AddSerializedFile(file.serialized_pb)
    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server, pool=POOL)
