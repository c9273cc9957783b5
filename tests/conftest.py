"""A real Docker engine for the tests that need one: started here, filled from this machine, gone afterwards."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lastgood import __version__

# How long an example takes depends on what else the machine does; pytest's own limit ends what hangs.
settings.register_profile("lastgood", deadline=None)
settings.load_profile("lastgood")
ROOT = Path(__file__).parents[1]
BASE = "lastgood-test-base"
WHEELHOUSE = "lastgood-test-wheelhouse"
SERVE = "lastgood-serve"
TRAIN = "lastgood-train"
# What the RUN lines of the Dockerfile call, and what a test asks a container to do.
TOOLS = ("sh", "cat", "chown", "dd", "id", "ls", "mkdir", "sleep", "touch")
_ADMIN = 1 << 21  # CAP_SYS_ADMIN: without it nobody can mount, and so run an engine
_START_SECONDS = 30


class Engine:
    """A Docker engine below a folder of its own, without a bridge or a firewall rule."""

    def __init__(self, folder: Path, dockerd: str) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'docker.sock'}"
        self._dockerd = dockerd
        # Another program of this name may be first on the PATH; the one that was installed with the engine fits it.
        beside = Path(dockerd).parent.parent / "bin" / "docker"
        self._docker = str(beside) if beside.exists() else "docker"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the engine and wait until it answers; fails with its last lines."""
        folders = [f"--{name}={self.folder / name.removesuffix('-root')}" for name in ("data-root", "exec-root")]
        command = [self._dockerd, f"--host={self.url}", *folders, f"--pidfile={self.folder / 'dockerd.pid'}"]
        command += ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"]
        log = self.folder / "dockerd.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        for _ in range(_START_SECONDS * 20):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                if door.connect_ex(self.url.removeprefix("unix://")) == 0:
                    self.docker("version")
                    return
            try:
                self._process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError(f"dockerd does not answer; its last lines:\n{log.read_text('utf-8')[-2000:]}")

    def stop(self) -> None:
        """End the engine, and with it every container."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop, and leave no file or mount."""
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=True, timeout=20)
        shutil.rmtree(self.folder)

    def docker(self, *arguments: str, seconds: float = 60, check: bool = True, data: bytes | None = None) -> str:
        """Run the command line; give what it printed, errors too."""
        done = subprocess.run(
            [self._docker, "--host", self.url, *arguments],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
            env={**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self.folder / "config")},
        )
        text = done.stdout.decode("utf-8", "replace")
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {text[-4000:]}"
        return text

    def build(self, target: str, tag: str, **overrides: str) -> None:
        """Build a target of the project's Dockerfile without the network."""
        # The base has no compiler: what is compiled is tested by itself, without an image.
        base = {"BASE": BASE, "BUILDER": BASE, "LASTGOOD_COMPILE": "0"}
        values = {**base, "WHEELHOUSE": WHEELHOUSE, "PIP_NO_INDEX": "1", "VERSION": __version__, **overrides}
        options = [option for name, value in values.items() for option in ("--build-arg", f"{name}={value}")]
        self.docker("build", "--network=none", f"--target={target}", f"--tag={tag}", *options, str(ROOT), seconds=280)

    def add_wheelhouse(self, tag: str, *extras: str) -> None:
        """Make an image of the wheels of an installation."""
        with tempfile.TemporaryDirectory() as wheels:
            fill_wheelhouse(Path(wheels), *extras)
            self.load(Path(wheels), tag)

    def load(self, folder: Path, tag: str) -> None:
        """Make an image of a folder."""
        with tempfile.TemporaryFile() as archive:
            subprocess.run(["tar", "-C", str(folder), "-c", "--owner=0", "--group=0", "."], stdout=archive, check=True, timeout=120)
            archive.seek(0)
            command = [self._docker, "--host", self.url, "import", "--change=ENV PATH=/usr/local/bin:/usr/bin:/bin", "-", tag]
            subprocess.run(command, stdin=archive, stdout=subprocess.DEVNULL, check=True, timeout=120)


def make_base(folder: Path) -> None:
    """Make the file system of a base image: this Python under /usr/local, the shared libraries and the few programs it takes."""
    python, stdlib = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = folder / "usr/local/lib" / name
    skipped = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test", "idlelib", "tkinter", "config-*", "*.a")
    shutil.copytree(stdlib, library, ignore=skipped)
    (library / "site-packages").mkdir()
    (library / "dist-packages").symlink_to("site-packages")  # Debian's own Python looks here
    for part in Path(sysconfig.get_path("purelib")).glob("pip*"):
        shutil.copytree(part, library / "site-packages" / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    programs = folder / "usr/local/bin"
    programs.mkdir(parents=True)
    shutil.copy2(python, programs / name)
    for link in ("python", "python3"):
        (programs / link).symlink_to(name)
    for tool in TOOLS:
        found = Path(shutil.which(tool) or tool).resolve()
        (folder / "bin").mkdir(exist_ok=True)
        shutil.copy2(found, folder / "bin" / tool)
    native = [programs / name, *(folder / "bin").iterdir(), *library.rglob("*.so")]
    # What the wheels' own libraries are linked with, though Python is not.
    native += [Path(path) for path in sysconfig_libraries("libstdc++.so.6", "libgcc_s.so.1", "librt.so.1", "libdl.so.2", "libpthread.so.0")]
    listed = subprocess.run(["ldd", *map(str, native)], capture_output=True, text=True, check=False, timeout=60).stdout
    for found in {*re.findall(r"(/\S+\.so\S*) \(0x", listed), *(str(path) for path in native if not path.is_relative_to(folder))}:
        target = folder / found.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(found).resolve(), target)
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", "utf-8")
    (folder / "etc/group").write_text("root:x:0:\n", "utf-8")
    (folder / "tmp").mkdir(mode=0o1777)
    (folder / "tmp").chmod(0o1777)


def sysconfig_libraries(*names: str) -> list[str]:
    """Give the paths of shared libraries as the loader knows them."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True, timeout=20).stdout
    found = {match[1]: match[2] for match in re.finditer(r"^\s*(\S+) \(.*x86-64.*\) => (\S+)$", cache, re.MULTILINE)}
    return [found[name] for name in names if name in found]


def fill_wheelhouse(folder: Path, *extras: str) -> None:
    """Fetch the wheels of an installation through this machine's own pip configuration."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = project["project"]["dependencies"] + [name for extra in extras for name in project["project"]["optional-dependencies"][extra]]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--constraint", str(ROOT / "constraints.txt"), "--wheel-dir", str(folder)]
    subprocess.run([*command, *wanted, *project["build-system"]["requires"], "wheel"], check=True, timeout=280, capture_output=True)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Give a running engine with the base image and a wheelhouse for `serve`."""
    dockerd = shutil.which("dockerd")
    if dockerd is None:
        pytest.skip("there is no dockerd; Debian: apt-get install docker.io iptables (make test does so for root)")
    effective = int(
        next(line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("CapEff")).split()[1], 16
    )
    if not effective & _ADMIN:
        pytest.skip("an engine of the tests' own can be started by root only, and outside of an unprivileged container")
    made = Engine(tmp_path_factory.mktemp("engine"), dockerd)
    try:
        made.start()
        with tempfile.TemporaryDirectory() as base:
            make_base(Path(base))
            Path(base).chmod(0o755)
            made.load(Path(base), BASE)
        made.add_wheelhouse(WHEELHOUSE)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def serve_image(engine: Engine) -> str:
    """Give the tag of the image `serve`, built from this tree."""
    engine.build("serve", SERVE, REVISION="0123abc")
    return SERVE


@pytest.fixture(scope="session")
def train_image(engine: Engine) -> str:
    """
    Give the tag of the image `train`, built from this tree without the training libraries, which take 3 GB and minutes.

    The stages and commands are the same; there are fewer extras.
    """
    engine.add_wheelhouse("lastgood-test-flows", "flows", "ci")
    engine.build("train", TRAIN, WHEELHOUSE="lastgood-test-flows", TRAIN_EXTRAS="flows,ci")
    return TRAIN


@pytest.fixture(scope="session")
def reference_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest that the command line gives for tumour with seed 3, a fixed recipe and 15 epochs: what every trigger must give too."""
    changes = ("--set", "recipe=static-int8", "--set", "epochs=15")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTGOOD_", "PREFECT_"))}
    done = subprocess.run(
        [sys.executable, "-m", "lastgood", "release", "tumour", "--no-deploy", "--seed", "3", *changes, "--json"],
        cwd=ROOT,
        env={**clean, "LASTGOOD_HOME": str(tmp_path_factory.mktemp("reference"))},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return str(json.loads(done.stdout)["version"]["digest"])


def pytest_configure() -> None:
    """Let what the tests start be interrupted, also where whoever started them in the background has interruptions ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares something costly when tests run in several processes: the tests of one file, and those of the engine."""

    def needs_engine(item: pytest.Item) -> bool:
        return "backends" in item.keywords or "engine" in getattr(item, "fixturenames", ())

    for item in items:
        item.add_marker(pytest.mark.xdist_group("engine" if needs_engine(item) else str(item.path)))
    items.sort(key=lambda item: not needs_engine(item))  # the longest group first, so that nothing waits for it at the end
