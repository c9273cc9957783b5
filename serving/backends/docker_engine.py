"""
The Docker engine through its SDK: what the backend asks of it, and a sentence for everything that can go wrong.

Every call blocks; the backend makes them in threads of its own.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import ConfigurationError, UnavailableError
from lastgood.serving.backends.process import describe_status
from lastgood.settings import DockerSettings

if TYPE_CHECKING:
    from docker import DockerClient

_ANSWER_SECONDS: Final = 10
_OLDEST_API: Final = "1.41"  # Docker 20.10; only to ask for the engine's own
_LOOK_SECONDS: Final = 0.02
_TAIL_LINES: Final = 5
_TAIL_CHARACTERS: Final = 500
_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m")
# A replica writes a line or two; what floods its log must not fill the disk.
_LOG_LIMITS: Final = {"max-size": "1m", "max-file": "1"}


class EngineError(UnavailableError):
    """The Docker engine is away, or did not do what it was asked."""

    code = "serving.docker-engine"


@dataclass(frozen=True, slots=True)
class Found:
    """A container that carries this gateway's label."""

    id: str
    running: bool
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended, as the end of a sentence, and the last lines it wrote."""

    how: str
    tail: str = ""


class Engine:
    """One engine, by the settings."""

    def __init__(self, settings: DockerSettings) -> None:
        """Remember the address; nothing is asked yet."""
        self._settings = settings
        self._client: DockerClient | None = None

    def connect(self) -> None:
        """
        Reach the engine and make sure that the image is there.

        Raises:
            ConfigurationError: The SDK is not installed, the engine does not answer, or it has no such image.
        """
        try:
            import docker
        except ImportError as exc:
            raise ConfigurationError("backend = 'docker' needs the Docker SDK: pip install 'lastgood[docker]'.") from exc
        try:
            with self._asking("say its version"):
                self._client = docker.DockerClient(base_url=self._settings.socket, version=_OLDEST_API, timeout=_ANSWER_SECONDS)
                # The SDK's own way to find the version out leaks a socket when nobody answers.
                newest = self._client.version(api_version=False)["ApiVersion"]
                self._client.close()
                self._client = docker.DockerClient(base_url=self._settings.socket, version=newest, timeout=_ANSWER_SECONDS)
            self.image_id()
        except EngineError as exc:
            self.close()
            raise ConfigurationError(f"backend = 'docker' cannot be used. {exc}") from exc

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def image_id(self) -> str:
        """Give the id of the image that the settings name."""
        with self._asking("show an image"):
            return str(self._docker.images.get(self._settings.image).id)

    def run(
        self, name: str, command: list[str], account: str, labels: Mapping[str, str], mounts: Mapping[str, str], memory_bytes: int
    ) -> str:
        """
        Start a container that can do nothing but compute, and give its id.

        Args:
            name: Of the container.
            command: The replica's program.
            account: UID:GID it runs as.
            labels: By which it is found again.
            mounts: Folders of the host by their path inside; none can be written.
            memory_bytes: What it may use; no swap.

        Raises:
            EngineError: It was not started, and there is none.
        """
        import docker

        limits = self._settings
        with self._asking("start a container"):
            container = self._docker.containers.create(
                limits.image,
                command,
                name=name,
                labels=dict(labels),
                user=account,
                mounts=[docker.types.Mount(inside, outside, "bind", read_only=True) for inside, outside in mounts.items()],
                tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={memory_bytes}"},  # noqa: S108  # the container's own
                read_only=True,
                network_mode="none",
                ipc_mode="none",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                mem_limit=memory_bytes,
                memswap_limit=memory_bytes,  # the sum of both: no swap
                nano_cpus=int(limits.cpus * 1e9),
                pids_limit=limits.pids,
                init=True,  # the first process of a container ignores signals it did not ask for, SIGKILL of its own included
                healthcheck={"test": ["NONE"]},  # the image's own asks for a gateway
                log_config=docker.types.LogConfig(type="json-file", config=_LOG_LIMITS),
                working_dir="/",
            )
            try:
                container.start()
            except Exception:
                container.remove(force=True, v=True)
                raise
        return str(container.id)

    def find(self, label: str) -> list[Found]:
        """Give all containers with a label (``name=value``), those that ended too."""
        with self._asking("list containers"):
            listed = self._docker.api.containers(all=True, filters={"label": label})
        return [Found(entry["Id"], entry["State"] == "running", entry["Labels"]) for entry in listed]

    def is_running(self, container: str) -> bool:
        """Say whether a container runs."""
        import docker

        with self._asking("show a container"):
            try:
                return bool(self._docker.api.inspect_container(container)["State"]["Running"])
            except docker.errors.NotFound:
                return False

    def bury(self, container: str, seconds: float) -> Ending:
        """
        Let a container end, kill it when the time is over, remove it, and say how it ended.

        Raises:
            EngineError: The engine does not answer; whether the container still runs is not known.
        """
        import docker

        with self._asking("remove a container"):
            client = self._docker.api
            try:
                state = self._await_end(container, seconds)
                alone = not state["Running"]
                if not alone:
                    with contextlib.suppress(docker.errors.APIError):  # it ended just now
                        client.kill(container)
                    state = self._await_end(container, _ANSWER_SECONDS)
                tail = client.logs(container, tail=_TAIL_LINES)
                memory_bytes = client.inspect_container(container)["HostConfig"]["Memory"]
                client.remove_container(container, force=True, v=True)
            except docker.errors.NotFound:
                return Ending("ended, and somebody else removed its container")
        how = _describe(state, memory_bytes) if alone else "closed its connection and went on running"
        return Ending(how, " | ".join(_clean(tail).splitlines())[-_TAIL_CHARACTERS:])

    def _await_end(self, container: str, seconds: float) -> Mapping[str, Any]:
        """Give the container's state when it ended, or when the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            state: Mapping[str, Any] = self._docker.api.inspect_container(container)["State"]
            if not state["Running"] or time.monotonic() > deadline:
                return state
            # Not the engine's own wait: if the engine ends meanwhile, that call leaves its socket open.
            time.sleep(_LOOK_SECONDS)

    def remove(self, container: str) -> None:
        """Remove a container, running or not."""
        import docker

        with self._asking("remove a container"), contextlib.suppress(docker.errors.NotFound):
            self._docker.api.remove_container(container, force=True, v=True)

    @property
    def _docker(self) -> "DockerClient":
        if self._client is None:
            raise EngineError(f"The Docker engine at {self._settings.socket} is not connected.")
        return self._client

    def _knock(self) -> None:
        """Fail where nobody listens; the SDK would, too, and leave a socket open each time."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.connect(self._settings.socket.removeprefix("unix://"))

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Say what went wrong in a sentence."""
        import docker
        import requests

        url = self._settings.socket
        try:
            self._knock()
            yield
        except docker.errors.ImageNotFound as exc:
            raise EngineError(
                f"The Docker engine at {url} has no image {self._settings.image!r}. Build it (docker build --target serve "
                f"-t {self._settings.image} .) or pull it, or name another as docker.image."
            ) from exc
        except docker.errors.APIError as exc:
            raise EngineError(f"The Docker engine at {url} did not {what}: {str(exc.explanation).rstrip('.')}.") from exc
        except requests.exceptions.Timeout as exc:
            raise EngineError(f"The Docker engine at {url} did not {what} within {_ANSWER_SECONDS} s.") from exc
        except (docker.errors.DockerException, requests.exceptions.ConnectionError, OSError) as exc:
            raise EngineError(f"The Docker engine at {url} does not answer: is it running, and may this account use it?") from exc


def _describe(state: Mapping[str, Any], memory_bytes: int) -> str:
    code = int(state["ExitCode"])
    if state["OOMKilled"]:
        return f"used up its {memory_bytes} bytes of memory and was killed (status {code}); docker.memory_bytes sets the limit"
    if state["Error"]:
        return f"ended with status {code}: {state['Error']}"
    return describe_status(128 - code if code > 128 else code)


def _clean(data: bytes) -> str:
    """Make a log a text without colours and control characters, but for the ends of lines."""
    text = _COLOUR.sub("", data.decode("utf-8", "replace"))
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
