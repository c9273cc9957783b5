"""Replicas in containers of a real engine: what they may do, who takes them over, and what is said when they end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lastgood.errors import ConfigurationError, UnavailableError
from lastgood.ports import free_ports
from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.serving.backends.docker_backend import DockerBackend, fits
from lastgood.serving.backends.docker_engine import Found
from lastgood.serving.backends.listener import Listener
from lastgood.serving.backends.replica import Need, ReplicaFailedError
from lastgood.serving.client import Control, Predictor
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.journal import Entry, Journal
from lastgood.serving.replica.dial import dial
from lastgood.settings import DockerSettings, Settings

if TYPE_CHECKING:
    from tests.conftest import Engine
    from tests.serving.conftest import Place, Tools, Version, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
MakeProgram = Callable[[str], tuple[str, ...]]
docker = [pytest.mark.slow, pytest.mark.system]
on_docker = pytest.mark.parametrize("place", [pytest.param("docker", marks=docker)], indirect=True)
QUICK = PoolLimits(respawn_seconds=0.01, respawn_limit_seconds=0.2)
SIX_SIX_SIX = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [666, 0, 0]}]}'
# Says what it may do, and dies.
PROBE = """
    if not (feeds["x"] == 666).any():
        return super().run(feeds)
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    written = []
    for folder in ("/", "/version", "/program", "/run/lastgood", "/var/lib/lastgood", "/project"):
        try:
            open(folder + "/x", "w")
            written.append(folder)
        except OSError:
            pass
    links = sorted(os.listdir("/sys/class/net"))
    print(status["CapEff"].strip(), status["NoNewPrivs"].strip(), os.getuid(), os.getgid(), written, links, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def refuses(pool: ReplicaPool) -> bool:
    """Say whether a version takes no request now."""
    try:
        pool.check_room()
    except UnavailableError:
        return True
    return False


def list_containers(engine: "Engine") -> list[dict[str, Any]]:
    """Give what the engine says of every container, ended ones too."""
    while ids := engine.docker("ps", "--all", "--quiet", "--no-trunc").split():
        said = engine.docker("inspect", *ids, check=False)
        if "No such object" not in said:  # one may have gone between the two questions
            return list(json.loads(said))
    return []


def make_pool(place: "Place", backend: Any, version: "Version", **options: Any) -> ReplicaPool:
    """Make a pool of version 1 of model m."""
    return ReplicaPool("m", 1, version.content.digest, version.content, version.folder, backend=backend, **options)


@on_docker
def test_a_container_may_only_compute(run: Run, versions: "Versions", tools: "Tools", engine: "Engine", make_program: MakeProgram) -> None:
    """No capability, no network, no writable file but in /tmp, an account without rights, limits, and labels that say what it is."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            version = versions.linear()
            await gateway.serve(version, limits=QUICK)
            (container,) = list_containers(engine)
            host = container["HostConfig"]
            assert (True, "none", ["ALL"], ["no-new-privileges:true"]) == (
                host["ReadonlyRootfs"],
                host["NetworkMode"],
                host["CapDrop"],
                host["SecurityOpt"],
            )
            assert (1 << 30, 1 << 30, 10**9, 128) == (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"])
            assert [False] * 3 == [mount["RW"] for mount in container["Mounts"]]
            labels = {name: value for name, value in container["Config"]["Labels"].items() if name.startswith("lastgood.")}
            assert ("m", "1", version.content.digest, "0") == tuple(
                labels[f"lastgood.{name}"] for name in ("model", "version", "digest", "generation")
            )
            assert 16 == len(labels["lastgood.gateway"])
            dying = await gateway.add(versions.linear(3, 0), 2, program=make_program(PROBE), limits=QUICK)
            gateway.route(tools.make_lane(dying))
            async with tools.connect(gateway.plane.port) as client:
                client.send_post("/v2/models/m/infer", SIX_SIX_SIX)
                await tools.wait_until(lambda: bool(gateway.deaths))
            account = f"{os.geteuid() or 65532}"
            said = f"Its last lines: {'0' * 16} 1 {account} {account} [] ['lo']."
            assert gateway.deaths[0] == f"The replica of m@2 was killed by SIGKILL. {said}"

    run(scenario)
    assert [] == list_containers(engine)


@on_docker
def test_a_replica_that_needs_too_much_memory_is_a_sentence_and_comes_back(
    run: Run, versions: "Versions", tools: "Tools", place: "Place", engine: "Engine", make_program: MakeProgram
) -> None:
    """The death names the limit and its setting; the next replica answers."""
    small = DockerSettings(image="lastgood-serve", socket=engine.url, memory_bytes=200 << 20)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            gateway.backend = DockerBackend(small, place.folder / "small", mounts={"/program": str(place.programs)})
            await gateway.backend.open(())
            program = make_program("""
                if (feeds["x"] == 666).any():
                    hog = np.ones(400 << 20, np.uint8)
                return super().run(feeds)
            """)
            await gateway.serve(versions.linear(), program=program, limits=QUICK)
            async with tools.connect(gateway.plane.port) as client:
                client.send_post("/v2/models/m/infer", SIX_SIX_SIX)
                assert (await client.read()).status == 503
                await tools.wait_until(lambda: gateway.pools[0].ready)
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            sentence = f"used up its {200 << 20} bytes of memory and was killed (status 137); docker.memory_bytes sets the limit."
            assert gateway.deaths == [f"The replica of m@1 {sentence}"] * 2

    run(scenario)
    assert [] == list_containers(engine)


@on_docker
def test_a_version_comes_back_with_its_engine(run: Run, versions: "Versions", tools: "Tools", engine: "Engine") -> None:
    """When the engine is restarted its containers end: the death says that it does not answer, and the version is up again after."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear(), limits=QUICK)
            await asyncio.to_thread(engine.stop)
            await tools.wait_until(lambda: bool(gateway.deaths))
            assert f"The Docker engine at {engine.url} does not answer" in gateway.deaths[0]
            async with tools.connect(gateway.plane.port) as client:
                await tools.wait_until(lambda: refuses(gateway.pools[0]))
                assert (await client.infer([1, 2, 3])).status == 503
                await asyncio.to_thread(engine.start)
                await tools.wait_until(lambda: gateway.pools[0].ready)
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            assert len(gateway.deaths) == 1
            assert len(list_containers(engine)) == 1  # the one that ended with the engine was removed

    try:
        run(scenario)
    finally:
        engine.stop()
        engine.start()
    assert [] == list_containers(engine)


@on_docker
def test_an_image_that_went_missing_is_a_sentence_and_what_serves_goes_on(
    run: Run, versions: "Versions", tools: "Tools", engine: "Engine", place: "Place"
) -> None:
    """A running replica does not need the name of its image; another one does, and gets ready when the name is back."""

    async def scenario() -> None:
        engine.docker("tag", "lastgood-serve", "lastgood-gone")
        async with tools.open_gateway() as gateway:
            gateway.backend = DockerBackend(DockerSettings(image="lastgood-gone", socket=engine.url), place.folder / "gone")
            await gateway.backend.open(())
            await gateway.serve(versions.linear(), limits=QUICK)
            engine.docker("rmi", "lastgood-gone")
            with pytest.raises(ReplicaFailedError, match=r"has no image 'lastgood-gone'\. Build it"):
                await gateway.add(versions.linear(3, 0), 2)
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            os.kill(gateway.pools[0].pids[0], signal.SIGKILL)
            await tools.wait_until(lambda: refuses(gateway.pools[0]))
            engine.docker("tag", "lastgood-serve", "lastgood-gone")
            await tools.wait_until(lambda: gateway.pools[0].ready)
        engine.docker("rmi", "lastgood-gone")

    run(scenario)
    assert [] == list_containers(engine)


# --- after a gateway was killed -----------------------------------------------------------------------------------------


@pytest.fixture
def settings(place: "Place", tmp_path: Path) -> Settings:
    rest, control = free_ports(2)
    # Deeper than an address of a Unix socket may be long.
    home = tmp_path / ("deep" * 25) / "home"
    return Settings(project=tmp_path, home=home, port_rest=rest, port_grpc=0, port_control=control, **place.settings)


class Program:
    """A gateway as a process that can be killed."""

    def __init__(self, settings: Settings, **overrides: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD_")}
        wanted = {
            "LASTGOOD_HOME": str(settings.home),
            "LASTGOOD_PORT_REST": str(settings.port_rest),
            "LASTGOOD_PORT_GRPC": "0",
            "LASTGOOD_PORT_CONTROL": str(settings.port_control),
            "LASTGOOD_BACKEND": "docker",
            "LASTGOOD_DOCKER": settings.docker.model_dump_json(),
            **overrides,
        }
        self.log = settings.project / "gateway.log"
        with self.log.open("ab") as output:
            command = [sys.executable, "-P", "-m", "lastgood.serving.gateway"]
            self.process = subprocess.Popen(command, env=clean | wanted, cwd=settings.project, stderr=output, stdout=output)

    async def serves(self, settings: Settings, tools: "Tools", version: str) -> list[float]:
        """Wait until a version answers, and give the answer to (1, 2, 3)."""
        with Predictor(settings) as predictor:
            answers: list[Any] = []

            def ask() -> bool:
                assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
                try:
                    answer = predictor.send("m", [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}])
                except UnavailableError:
                    return False  # not up yet
                if not answer.is_success:
                    return False
                answers.append(answer.json())
                if answers[-1]["model_version"] != version:
                    return False
                with Control(settings) as control:
                    state = control.state("m")
                return bool(state["rollout"] is None or state["rollout"]["state"] in {"stable", "withdrawn"})

            await tools.wait_until(ask)
            data: list[float] = answers[-1]["outputs"][0]["data"]
            return data

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], Program]]:
    """Start gateways, which are killed if the test leaves them."""
    started: list[Program] = []

    def go() -> Program:
        started.append(Program(settings))
        return started[-1]

    yield go
    for program in started:
        program.end(signal.SIGKILL)


@pytest.fixture
def registered(settings: Settings, versions: "Versions") -> None:
    """Two versions of m that multiply by their number, with golden answers."""
    with Registry.open(settings, writer="cli") as registry:
        for number in (1, 2):
            row = np.ones((1, 3), np.float32)
            version = versions.linear(float(number), 0.0, {"in/x": row, "out/y": row * number})
            files = {entry.path: version.folder / entry.path for entry in version.content.files}
            registry.register("m", version.content, files, Record("ada", f"times {number}"), actor="ada")


def deploy(settings: Settings, number: int) -> None:
    """Deploy a version at once."""
    policy = {"soak_requests": 1, "soak_seconds": 0}
    with Control(settings) as control:
        control.deploy(f"m@{number}", strategy="direct", policy=policy, actor="ada", why="a test")


@on_docker
def test_a_gateway_takes_over_what_a_killed_one_left(
    run: Run, settings: Settings, registered: None, start: Callable[[], Program], tools: "Tools", engine: "Engine"
) -> None:
    """The container goes on with the model it verified, gives the golden answers again, and its successor's requests are answered."""

    async def scenario() -> None:
        first = start()
        await tools.wait_until(lambda: _answers(settings))
        deploy(settings, 1)
        assert await first.serves(settings, tools, "1") == [1, 2, 3]
        (before,) = list_containers(engine)
        first.end(signal.SIGKILL)
        second = start()
        assert await second.serves(settings, tools, "1") == [1, 2, 3]
        (after,) = list_containers(engine)
        assert (before["Id"], before["State"]["StartedAt"]) == (after["Id"], after["State"]["StartedAt"])
        assert '"a running container is taken over"' in second.log.read_text("utf-8")
        assert "The golden answers agree." in second.log.read_text("utf-8").rpartition("taken over")[2]
        # What it serves may be taken out as with any other, and its death is noticed.
        os.kill(int(after["State"]["Pid"]), signal.SIGKILL)
        await tools.wait_until(lambda: [c["Id"] for c in list_containers(engine) if c["State"]["Running"]] not in ([], [after["Id"]]))
        assert await second.serves(settings, tools, "1") == [1, 2, 3]
        assert second.end() == 0

    run(scenario)
    assert [] == list_containers(engine)


@on_docker
def test_what_no_route_needs_is_removed_and_what_others_own_is_not(
    run: Run,
    settings: Settings,
    registered: None,
    start: Callable[[], Program],
    tools: "Tools",
    engine: "Engine",
    place: "Place",
    versions: "Versions",
) -> None:
    """A version that was taken out while no gateway ran, and another gateway's container of the same version."""

    async def scenario() -> None:
        other = DockerBackend(settings.docker, place.folder / "other")
        await other.open(())
        foreign = make_pool(place, other, versions.linear())
        await foreign.start()
        (theirs,) = list_containers(engine)
        first = start()
        await tools.wait_until(lambda: _answers(settings))
        for number in (1, 2):
            deploy(settings, number)
            await first.serves(settings, tools, str(number))
        ours = {name_version(container): container["Id"] for container in list_containers(engine) if container["Id"] != theirs["Id"]}
        assert {"1", "2"} == set(ours)
        first.end(signal.SIGKILL)
        with Registry.open(settings, writer="test") as registry:
            digest = registry.resolve("m@2").digest
        journal = Journal(settings.home / "gateway" / "withdrawals.jsonl")
        journal.append(Entry("e1", datetime.now(UTC).isoformat(), "m", 2, digest, "alert", True, "alert", "bad", {}))
        journal.close()
        second = start()
        assert await second.serves(settings, tools, "1") == [1, 2, 3]
        assert {theirs["Id"], ours["1"]} == {container["Id"] for container in list_containers(engine)}
        assert second.end() == 0
        assert foreign.ready
        await foreign.stop()
        await other.close()

    run(scenario)
    assert [] == list_containers(engine)


def name_version(container: dict[str, Any]) -> str:
    """Give the version that a container serves."""
    return str(container["Config"]["Labels"]["lastgood.version"])


def _answers(settings: Settings) -> bool:
    with Control(settings) as control:
        try:
            return bool(control.ping())
        except UnavailableError:
            return False  # not up yet


# --- settings and the socket --------------------------------------------------------------------------------------------


def open_and_fail(run: Run, folder: Path, settings: DockerSettings) -> str:
    """Open a backend that cannot be used; give the sentence."""
    errors: list[str] = []

    async def scenario() -> None:
        backend = DockerBackend(settings, folder)
        with pytest.raises(ConfigurationError) as caught:
            await backend.open(())
        await backend.close()
        errors.append(str(caught.value))

    run(scenario)
    return errors[0]


def test_without_an_engine_or_the_sdk_the_settings_are_wrong(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a sentence that says what to do."""
    nowhere = DockerSettings(socket=f"unix://{tmp_path}/none.sock")
    assert "none.sock does not answer: is it running" in open_and_fail(run, tmp_path / "a", nowhere)
    monkeypatch.setitem(sys.modules, "docker", None)
    assert "pip install 'lastgood[docker]'" in open_and_fail(run, tmp_path / "b", nowhere)


@on_docker
def test_an_image_that_is_not_there_is_a_wrong_setting(run: Run, tmp_path: Path, place: "Place", engine: "Engine") -> None:
    """The sentence says how to build it."""
    sentence = open_and_fail(run, tmp_path / "a", DockerSettings(image="lastgood-none", socket=engine.url))
    assert "has no image 'lastgood-none'. Build it (docker build --target serve -t lastgood-none .)" in sentence


@pytest.mark.parametrize(
    "values", [{"memory_bytes": 1}, {"cpus": 0}, {"pids": 1}, {"image": ""}, {"socket": "tcp://127.0.0.1:2375"}, {"volume": "/"}]
)
def test_settings_that_cannot_be_right_are_refused(values: dict[str, Any]) -> None:
    """Limits that let nothing start, an engine elsewhere (memory is shared with this machine), and unknown names."""
    with pytest.raises(ValueError, match=next(iter(values))):
        DockerSettings(**values)


def test_nobody_else_may_call_and_only_once(run: Run, tmp_path: Path) -> None:
    """A process of another account is turned away, the right one is taken, and then nobody listens."""

    async def scenario() -> None:
        stranger = Listener(tmp_path, os.geteuid() + 1)
        caller = await asyncio.to_thread(dial, str(tmp_path / "gateway.sock"), 5)
        assert caller is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stranger.accept()
        assert await asyncio.to_thread(caller.recv, 1) == b""
        caller.close()
        stranger.close()
        listener = Listener(tmp_path, os.geteuid())
        caller = await asyncio.to_thread(dial, str(tmp_path / "gateway.sock"), 5)
        assert caller is not None
        connection, pid = await listener.accept()
        assert pid == os.getpid()
        listener.close()
        assert dial(str(tmp_path / "gateway.sock"), 0) is None
        connection.close()
        caller.close()

    run(scenario)


def test_a_replica_that_nobody_calls_back_ends_by_itself(tmp_path: Path) -> None:
    """Its patience is bounded: here a second instead of a minute."""
    script = "import sys, lastgood.serving.replica.program as p; p.PATIENCE_SECONDS = 1; sys.exit(p.main(argv=['--connect', sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path / "s")], capture_output=True, text=True, timeout=20, check=False
    )
    assert (0, "no gateway listens any more; this replica ends\n") == (done.returncode, done.stderr)


def test_only_known_versions_fit() -> None:
    """A container of a later generation than the record knows belongs to another history."""
    labels = {"lastgood.model": "m", "lastgood.version": "1", "lastgood.digest": "sha256:0", "lastgood.generation": "3"}
    found = Found("id", running=True, labels=labels)
    assert [fits(found, Need("m", 1, "sha256:0", generation)) for generation in (2, 3, 4)] == [False, True, True]
    assert [fits(found, need) for need in (Need("n", 1, "sha256:0", 9), Need("m", 2, "sha256:0", 9), Need("m", 1, "sha256:1", 9))] == [
        False
    ] * 3
