"""The gateway as a program: its ports, the conductor between them, and an orderly end."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from lastgood.errors import LastgoodError
from lastgood.registry.registry import Registry
from lastgood.serving.allocator import return_large
from lastgood.serving.client import read_token
from lastgood.serving.gateway import route
from lastgood.serving.gateway.control import ControlPlane
from lastgood.serving.gateway.doubts import list_doubts
from lastgood.serving.gateway.http.listening import load_tls
from lastgood.serving.gateway.http.server import Server
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.lock import hold
from lastgood.serving.gateway.observation.quality import QualityCollector
from lastgood.serving.gateway.plane import DataPlane
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.metrics import RolloutCollector
from lastgood.serving.gateway.sleep.metrics import SleepCollector
from lastgood.serving.gateway.telemetry.collector import TelemetryCollector
from lastgood.serving.gateway.telemetry.telemetry import Telemetry, open_telemetry
from lastgood.serving.gateway.wakefulness import Wakefulness, has_cores_to_spare
from lastgood.serving.logs import configure_logging
from lastgood.settings import Settings, load_settings

if TYPE_CHECKING:
    from lastgood.serving.gateway.grpc.server import GrpcServer

log = structlog.get_logger()


class Gateway:
    """One gateway process, as an object: started, waited for, and stopped."""

    def __init__(self, settings: Settings, *, program: Sequence[str] | None = None) -> None:
        """
        Put the parts together; nothing listens yet.

        Args:
            settings: Ports, home, token.
            program: Another replica program than the product's.

        Raises:
            MissingOpenTelemetryError: Spans are to be sent, and OpenTelemetry is not installed.
        """
        self._settings = settings
        self._telemetry = open_telemetry(settings.telemetry, settings.home)
        token = read_token(settings.token_file)
        front = settings.front
        tls = None if front.tls_certificate is None or front.tls_key is None else load_tls(front.tls_certificate, front.tls_key)
        reception = Reception(Wakefulness(front.awake_seconds if has_cores_to_spare() else 0.0))
        self.plane = DataPlane(
            reception,
            settings.host,
            settings.port_rest,
            token=token,
            tls=tls,
            socket_file=front.unix_socket,
            telemetry=self._telemetry,
        )
        self.grpc = _make_grpc(settings, reception, token, self._telemetry)
        self.conductor = Conductor(settings, reception, program=program)
        metrics = CollectorRegistry()
        metrics.register(reception.collector)
        metrics.register(RolloutCollector(self.conductor, settings.home))
        metrics.register(SleepCollector(self.conductor.sleepers))
        metrics.register(QualityCollector(self.conductor.observation, self.conductor.book))
        metrics.register(TelemetryCollector(self._telemetry))
        control = ControlPlane(self.conductor, metrics, registry_id=settings.registry_id, token=token)
        self.control = Server(control.router, settings.host, settings.port_control, HttpLimits(drain_idle_seconds=0))

    async def start(self) -> None:
        """
        Apply the journal, listen, and bring up what must serve: until it is, the inference port says that it is not ready.

        The control port opens last: who waits for it finds everything up.

        Raises:
            PortTakenError: Another process listens on one of the ports.
            ConfigurationError: Replicas cannot run where the settings say.
        """
        await self.conductor.open()
        for doubt in list_doubts(self._settings, await self.conductor.record.call(Registry.models)):
            log.warning(doubt)
        try:
            await self.plane.start()
            if self.grpc is not None:
                await self.grpc.start()
            await self.conductor.bring_up()
            await self.control.start()
        except LastgoodError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Answer what came in, write what was decided, end every replica."""
        async with asyncio.TaskGroup() as ports:
            ports.create_task(self.plane.drain())
            if self.grpc is not None:
                ports.create_task(self.grpc.drain())
        closing = None if self._telemetry is None else asyncio.create_task(asyncio.to_thread(self._telemetry.close))
        await self.conductor.close()
        if closing is not None:
            await closing
        await self.control.stop(grace_seconds=2)


def _make_grpc(settings: Settings, reception: Reception, token: str | None, telemetry: Telemetry | None) -> "GrpcServer | None":
    """Prepare the gRPC port where there is to be one; without it its libraries are not loaded."""
    if not settings.port_grpc:
        return None
    from lastgood.serving.gateway.grpc.server import GrpcServer

    front = settings.front
    tls = None if front.tls_certificate is None or front.tls_key is None else (front.tls_certificate, front.tls_key)
    return GrpcServer(reception, settings.host, settings.port_grpc, token=token, tls=tls, telemetry=telemetry)


async def serve(settings: Settings, *, program: Sequence[str] | None = None) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    gateway = Gateway(settings, program=program)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await gateway.start()
    # What is here now stays: looking through it again and again would stop all requests for tens of milliseconds.
    gc.collect()
    gc.freeze()
    addresses = {"rest": settings.rest_url, "grpc": settings.grpc_address, "control": settings.control_url}
    log.info("the gateway serves", **addresses, compiled=not route.__file__.endswith(".py"))
    await stop.wait()
    log.info("the gateway stops")
    await gateway.stop()


def main(*, program: Sequence[str] | None = None) -> int:
    """Run a gateway with the project's settings; give the exit code."""
    configure_logging()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else every client that breaks off a handshake writes into the log
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # whoever is forked here runs another program: nothing is to be prepared
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return_large()
    try:
        settings = load_settings()
        with hold(settings.home / "gateway"):
            asyncio.run(serve(settings, program=program))
    except LastgoodError as exc:
        sys.stderr.write(f"lastgood gateway: {exc}  [{exc.code}]\n")
        return exc.exit_code
    return 0
