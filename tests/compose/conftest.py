"""Images for compose.yaml out of this machine's programs, and the stack as somebody at a terminal has it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from lastgood.ports import free_ports
from lastgood.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import Engine

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# Grafana is in no package: it is left out, and its part of the file is checked by the schema only.
SERVICES = ("gateway", "alertmanager", "prometheus", "postgres", "prefect", "deployments", "worker")
PACKAGES = "prometheus prometheus-alertmanager postgresql wget docker-compose"


def find_programs() -> dict[str, Path] | str:
    """Give what the stand-in images are made of by its path in them, or a sentence about what is missing."""
    named = {
        "usr/local/bin/prometheus": shutil.which("prometheus"),
        "usr/local/bin/alertmanager": shutil.which("prometheus-alertmanager") or shutil.which("alertmanager"),
        "usr/bin/wget": shutil.which("wget"),
    }
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    missing = [Path(name).name for name, found in named.items() if found is None] + ([] if postgres else ["postgresql"])
    missing += [] if shutil.which("docker-compose") else ["docker-compose"]
    if missing:
        return f"{', '.join(missing)} not found; Debian: apt-get install {PACKAGES}"
    programs = {name: Path(found) for name, found in named.items() if found is not None}
    folder = postgres[-1].parents[1]
    wanted = [*(folder / "bin" / name for name in ("initdb", "pg_isready", "postgres")), *folder.glob("lib/*.so")]
    return programs | {str(path).lstrip("/"): path for path in wanted if "llvm" not in path.name}


def fill_context(folder: Path, programs: dict[str, Path]) -> Path:
    """Copy the programs with their shared libraries into a folder; give PostgreSQL's own folder in it."""
    listed = subprocess.run(["ldd", *map(str, programs.values())], capture_output=True, text=True, check=False, timeout=60).stdout
    for target, source in (programs | {found.lstrip("/"): Path(found) for found in re.findall(r"(/\S+\.so\S*) \(0x", listed)}).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.resolve(), folder / target)
    home = next(path for path in programs.values() if path.name == "initdb").parents[1]
    templates = [f"usr/share/prometheus/alertmanager/{name}.tmpl" for name in ("default", "email")]  # Debian's build reads them there
    for name in (f"usr/share/postgresql/{home.name}", "usr/share/zoneinfo/Etc", *filter(lambda name: Path("/", name).exists(), templates)):
        if Path("/", name).is_dir():
            shutil.copytree(Path("/", name), folder / name)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path("/", name), folder / name)
    shutil.copy2(HERE / "postgres-entrypoint", folder / "usr/local/bin/postgres-entrypoint")
    return home


@pytest.fixture(scope="session")
def images(engine: "Engine", serve_image: str, train_image: str) -> dict[str, dict[str, str]]:
    """Give each service's image: the Dockerfile's two (the worker's cannot train), and stand-ins for the public ones."""
    programs = find_programs()
    if isinstance(programs, str):
        pytest.skip(programs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = fill_context(folder, programs)
        for target in ("alertmanager", "prometheus", "postgres"):
            options = ["--network=none", f"--file={HERE / 'Dockerfile'}", f"--target={target}", f"--tag=lastgood-test-{target}"]
            engine.docker("build", *options, f"--build-arg=POSTGRES={home}", name)
    stood_in = {target: {"image": f"lastgood-test-{target}"} for target in ("alertmanager", "prometheus", "postgres")}
    flows = {name: {"image": train_image} for name in ("prefect", "deployments", "worker")}
    return {"gateway": {"image": serve_image}, **flows, **stood_in}


class Stack:
    """compose.yaml on the tests' engine: its own project name, ports and secrets."""

    def __init__(self, engine: "Engine", folder: Path, images: dict[str, dict[str, str]]) -> None:
        self.engine = engine
        self.folder = folder
        self.name = "lastgood-test"
        self.services = SERVICES
        names = ("REST", "GRPC", "CONTROL", "PREFECT", "PROMETHEUS", "ALERTMANAGER")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.secrets = folder / "secrets"
        self.project = folder / "project"
        self.project.mkdir()
        shutil.copy(ROOT / "deploy/project/lastgood.toml", self.project)
        self.override = folder / "compose.test.yaml"
        self.override.write_text(yaml.safe_dump({"services": images}), "utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTGOOD_", "PREFECT_", "COMPOSE_", "DOCKER_"))}
        self.environment = {
            **clean,
            **{f"LASTGOOD_PORT_{name}": str(port) for name, port in self.ports.items()},
            "DOCKER_HOST": engine.url,
            "PROJECT": str(self.project),
            "SECRETS": str(self.secrets),
        }

    def compose(self, *arguments: str, seconds: float = 150, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run docker-compose."""
        files = [option for file in (ROOT / "compose.yaml", self.override) for option in ("--file", str(file))]
        command = ["docker-compose", *files, "--project-directory", str(ROOT), "--project-name", self.name, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def run(self, *arguments: str, seconds: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the worker's container, as docs/compose.md says."""
        return self.compose("exec", "-T", "worker", *arguments, seconds=seconds, check=check)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Give what the engine says of each service's container, ended ones too."""
        ids = self.engine.docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={self.name}").split()
        found = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[tuple[str, str]]]:
        """Note (service, what happened) of every start, end and change of health, in the order the engine sees them."""
        seen: list[tuple[str, str]] = []
        filters = [f"--filter={one}" for one in (f"label=com.docker.compose.project={self.name}", "event=start", "event=die")]
        command = ["docker", "--host", self.engine.url, "events", *filters, "--filter=event=health_status", "--format={{json .}}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                yield seen
            finally:
                process.terminate()
            for line in process.stdout or ():
                event = json.loads(line)
                seen.append((event["Actor"]["Attributes"]["com.docker.compose.service"], event["Action"]))

    def is_well(self) -> bool:
        """Say whether everything that runs is healthy, and what runs once has ended well."""
        found = self.containers()
        states = {name: one["State"] for name, one in found.items()}
        return set(SERVICES) == set(states) and all(
            state["ExitCode"] == 0 and not state["Running"] if name == "deployments" else state.get("Health", {}).get("Status") == "healthy"
            for name, state in states.items()
        )

    def settings(self) -> Settings:
        """Give the settings of a client outside of the containers."""
        return Settings(
            project=self.folder,
            home=self.folder / "home",
            token_file=self.secrets / "lastgood_token",
            port_rest=self.ports["REST"],
            port_control=self.ports["CONTROL"],
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus."""
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS']}/api/v1/query"
        result: list[dict[str, Any]] = httpx.get(url, params={"query": expression}, timeout=5).json()["data"]["result"]
        return result

    def wait_until(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait for something a container does; fails with what they said when it does not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.tell()
            time.sleep(0.2)

    def tell(self) -> str:
        """Give states and last lines, for the reader of a failed test."""
        states = {name: json.dumps(one["State"])[:1500] for name, one in self.containers().items()}
        logs = self.compose("logs", "--no-color", "--tail=25", check=False)
        return "\n".join([*(f"{name}: {state}" for name, state in states.items()), logs.stdout[-15000:]])


@pytest.fixture
def stack(engine: "Engine", images: dict[str, dict[str, str]], tmp_path: Path) -> Iterator[Stack]:
    """Give the stack, not yet up; at the end it is down, volumes too."""
    tmp_path.chmod(0o755)
    made = Stack(engine, tmp_path, images)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", "--timeout=10", check=False)
