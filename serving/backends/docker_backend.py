"""
Containers as the place where replicas run: whose they are, which to take over, which to put away.

Labels say so: ``lastgood.gateway`` is the home's own random name, so that a gateway touches its own containers only;
``lastgood.model``, ``.version``, ``.digest`` say what a replica serves, ``.generation`` the route table's number when it was
started, ``.recipe`` how, and ``.berth`` the folder of its socket.
"""

import asyncio
import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import structlog

from lastgood.serving.backends.docker_engine import Ending, Engine, EngineError, Found
from lastgood.serving.backends.docker_replica import VERSION_FOLDER, DockerReplica
from lastgood.serving.backends.listener import FILE
from lastgood.serving.backends.replica import Launch, Need, Owner
from lastgood.serving.replica.dial import PATIENCE_SECONDS
from lastgood.settings import DockerSettings

log = structlog.get_logger()
T = TypeVar("T")
PROGRAM: Final = ("python", "-P", "-m", "lastgood.serving.replica")
SOCKET_FOLDER: Final = "/run/lastgood"
_ACCOUNT: Final = 65532  # where the gateway is root; the image's own
_TRANSPORT: Final = 2  # changes with what gateway and replica say to each other
_OWN: Final = "lastgood.gateway"


@dataclass(slots=True)
class Berth:
    """A container's name here: the folder of its socket, and its id once it was made."""

    token: str
    folder: Path
    container: str | None = None

    def make_folder(self) -> Path:
        """Make the folder if it is not there, and give it."""
        self.folder.mkdir(mode=0o755, exist_ok=True)
        return self.folder


class DockerBackend:
    """One engine, used by one gateway; belongs to one event loop."""

    def __init__(self, settings: DockerSettings, folder: Path, *, mounts: Mapping[str, str] | None = None) -> None:
        """
        Prepare; `open` asks the engine.

        Args:
            settings: Engine, image and limits.
            folder: Where sockets and the gateway's name lie; they outlive the gateway.
            mounts: Further folders by their path inside, for programs that are not in the image.
        """
        self.uid = os.geteuid() or _ACCOUNT
        self._account = f"{self.uid}:{os.getegid() if os.geteuid() else _ACCOUNT}"
        self._settings = settings
        self._folder = folder
        self._mounts = dict(mounts or {})
        self._engine = Engine(settings)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="docker")
        self._name = ""
        self._image = ""
        self._berths: dict[str, Berth] = {}  # by token: in use
        self._left: dict[str, Found] = {}  # by token: running, left by an earlier gateway, to be taken over
        self._reaper: asyncio.TimerHandle | None = None
        self._reaping: asyncio.Task[None] | None = None

    async def open(self, needed: Collection[Need]) -> None:
        """
        Reach the engine; put away what an earlier gateway of this home left and none of these versions needs.

        Raises:
            ConfigurationError: The SDK, the engine or the image is not there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = _read_name(self._folder / "name")
        await self._call(self._engine.connect)
        self._image = await self._call(self._engine.image_id)
        for found in await self._call(lambda: self._engine.find(f"{_OWN}={self._name}")):
            if found.running and any(fits(found, need) for need in needed):
                self._left[found.labels["lastgood.berth"]] = found
            else:
                await self._call(functools.partial(self._engine.remove, found.id))
                log.info("a container that no route needs was removed", container=found.id[:12], digest=found.labels.get("lastgood.digest"))
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder.name not in self._left:
                shutil.rmtree(folder)
        if self._left:
            self._reaper = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._reap)

    def make(self, launch: Launch, owner: Owner) -> DockerReplica:
        """Prepare a replica, which takes over a running container of the same version if one was left."""
        return DockerReplica(launch, owner, self, self._claim(launch))

    async def close(self) -> None:
        """Remove what was left and not taken over, and let go of the engine."""
        if self._reaper is not None:
            self._reaper.cancel()
        self._reap()
        if self._reaping is not None:
            await self._reaping
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._engine.close()

    # --- for its replicas ------------------------------------------------------------------------------------------

    def new_berth(self, launch: Launch) -> Berth:
        """Give a container that is to be made its name."""
        del launch
        token = secrets.token_hex(4)
        berth = self._berths[token] = Berth(token, self._folder / token)
        return berth

    async def run(self, launch: Launch, berth: Berth) -> None:
        """
        Start a container.

        Raises:
            EngineError: There is none.
        """
        command = [*(launch.program or PROGRAM), "--connect", f"{SOCKET_FOLDER}/{FILE}"]
        mounts = {VERSION_FOLDER: str(launch.folder.resolve()), SOCKET_FOLDER: str(berth.folder.resolve()), **self._mounts}

        def start() -> str:
            self._sweep()
            self._image = self._engine.image_id()  # the name may stand for another image by now
            labels = {
                _OWN: self._name,
                "lastgood.model": launch.model,
                "lastgood.version": str(launch.number),
                "lastgood.digest": launch.digest,
                "lastgood.generation": str(launch.generation),
                "lastgood.recipe": self._recipe(launch),
                "lastgood.berth": berth.token,
            }
            name = f"lastgood-{launch.model}-{launch.number}-{berth.token}"
            return self._engine.run(name, command, self._account, labels, mounts, self._memory_of(launch))

        berth.container = await self._call(start)

    async def is_running(self, berth: Berth) -> bool:
        """Say whether the berth's container runs."""
        container = berth.container
        return container is not None and await self._call(lambda: self._engine.is_running(container))

    async def bury(self, berth: Berth, seconds: float) -> Ending:
        """
        Let the berth's container end, kill it when the time is over, and remove it and its folder.

        Raises:
            EngineError: The engine does not answer; what is left is removed when it does.
        """
        self._berths.pop(berth.token, None)
        container = berth.container
        try:
            if container is None:
                return Ending("was never started")
            return await self._call(lambda: self._engine.bury(container, seconds))
        finally:
            shutil.rmtree(berth.folder, ignore_errors=True)

    # --- own containers --------------------------------------------------------------------------------------------

    def _claim(self, launch: Launch) -> Berth | None:
        for token, found in self._left.items():
            labels = found.labels
            wanted = (launch.model, str(launch.number), launch.digest, self._recipe(launch))
            if wanted == tuple(labels.get(f"lastgood.{name}") for name in ("model", "version", "digest", "recipe")):
                del self._left[token]
                berth = self._berths[token] = Berth(token, self._folder / token, found.id)
                log.info("a running container is taken over", model=launch.model, version=launch.number, container=found.id[:12])
                return berth
        return None

    def _recipe(self, launch: Launch) -> str:
        """Name everything but the version that makes one container differ from another."""
        place = [self._image, self._settings.model_dump(), self._mounts, self._account]
        own = [list(launch.program or PROGRAM), launch.threads, launch.providers, self._memory_of(launch)]
        parts = [_TRANSPORT, place, own]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _memory_of(self, launch: Launch) -> int:
        return launch.memory_bytes or self._settings.memory_bytes

    def _sweep(self) -> None:
        """Remove own containers that nobody holds: the engine was away when they were to be removed."""
        for found in self._engine.find(f"{_OWN}={self._name}"):
            token = found.labels.get("lastgood.berth", "")
            if token not in self._berths and token not in self._left:
                self._engine.remove(found.id)

    def _reap(self) -> None:
        """Remove what nobody took over; its patience with gateways is over too."""
        left, self._left = list(self._left.values()), {}

        def remove() -> None:
            for found in left:
                self._engine.remove(found.id)

        async def reap() -> None:
            try:
                await self._call(remove)
            except EngineError as exc:
                log.warning("containers that no route needs could not be removed", why=str(exc))

        if left:
            self._reaping = asyncio.get_running_loop().create_task(reap())

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def fits(found: Found, need: Need) -> bool:
    """Say whether a container that was left serves what is needed."""
    labels = found.labels
    if (need.model, str(need.number), need.digest) != tuple(labels.get(f"lastgood.{name}") for name in ("model", "version", "digest")):
        return False
    generation = labels.get("lastgood.generation", "")
    # One from a later generation than the record knows belongs to a record that was replaced by an older copy.
    return generation.isdecimal() and int(generation) <= need.generation


def _read_name(path: Path) -> str:
    """Give this home's own name: made up once, and joined with the path, so that a copied home has another."""
    if not path.exists():
        path.write_text(secrets.token_hex(16), "utf-8")
    return hashlib.sha256(f"{path.read_text('utf-8').strip()} {path.resolve()}".encode()).hexdigest()[:16]
