"""The servers that the registry's tests start: a real PostgreSQL, and a real S3; each ends with the process that started it here."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood.ports import free_ports

_START_SECONDS = 30
_USER = "postgres"  # whom Debian's package makes; root must not run a server


class PostgreSQL:
    """A server behind a socket file in a folder of its own, which forgets what it should sync: nothing of it outlives the tests."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        self._owner = _USER if os.getuid() == 0 else None
        if self._owner is not None:
            shutil.chown(folder, self._owner)
        # Ordering texts as people do is what a server set up without thinking has, and what the catalogue must not depend on.
        locale = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        initdb = [str(programs / "initdb"), "--pgdata=data", "--username=lastgood", "--auth=trust", "--encoding=UTF8", "--no-sync", *locale]
        done = subprocess.run(initdb, cwd=folder, user=self._owner, capture_output=True, text=True, timeout=60, check=False)
        assert 0 == done.returncode, done.stderr
        fast = (
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "autovacuum=off",
            "shared_buffers=32MB",
            "max_connections=60",
        )
        options = [f"--{option}" for option in (*fast, "listen_addresses=", f"unix_socket_directories={folder}")]
        self._command = [str(programs / "postgres"), "-D", str(folder / "data"), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command, cwd=self.folder, user=self._owner, stdout=output, stderr=output)
        _await(self._process, log, lambda: self._ask("SELECT 1"))

    def stop(self) -> None:
        """End it at once, whatever its clients are doing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_SECONDS)
            self._process = None

    def url(self, name: str) -> str:
        """Give a database's URL."""
        return f"postgresql://lastgood@/{name}?host={self.folder}"

    def create(self, *, template: str = "template1") -> str:
        """Make a database, a copy of another one that nobody uses; give its name."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._ask(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self._ask(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _ask(self, question: str | sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(question)


class S3:
    """
    A server of objects that speaks S3 and checks signatures, with one bucket.

    It is rclone's: of what PyPI, npm and Debian have, it is the one that is no imitation for tests but a program that people serve files
    with, in a process of its own, and that refuses a request whose signature is wrong.
    """

    BUCKET = "lastgood"
    KEY, SECRET = "lastgood-test-key", "lastgood-test-secret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects" / self.BUCKET).mkdir(parents=True)
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def start(self) -> None:
        """Start, and wait until it listens."""
        own = [f"--config={os.devnull}", f"--cache-dir={self.folder / 'cache'}", f"--addr=127.0.0.1:{self._port}"]
        program = Path(sys.executable).with_name("rclone")
        command = [str(program), "serve", "s3", *own, f"--auth-key={self.KEY},{self.SECRET}", str(self.folder / "objects")]
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        _await(self._process, log, lambda: socket.create_connection(("127.0.0.1", self._port), 1).close())

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_START_SECONDS)
            self._process = None

    def variables(self) -> Mapping[str, str]:
        """Give the environment in which S3's clients find it."""
        return {
            "AWS_ACCESS_KEY_ID": self.KEY,
            "AWS_SECRET_ACCESS_KEY": self.SECRET,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def create(self) -> str:
        """Give the URL of a place that holds nothing."""
        return f"s3://{self.BUCKET}/{os.getpid()}/{next(self._numbers)}"


def find_programs() -> Path:
    """Give the folder of PostgreSQL's programs, or skip where there is none: Debian has them on no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("there is no PostgreSQL; Debian: apt-get install postgresql (make test does so for root)")
    return found[-1].parent


@contextlib.contextmanager
def run_postgresql() -> Iterator[PostgreSQL]:
    """Run a server, or skip where there is none."""
    programs = find_programs()
    # Not below pytest's own folder, into which nobody else may look.
    with tempfile.TemporaryDirectory(prefix="lastgood-postgresql-") as name:
        server = PostgreSQL(Path(name), programs)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def run_s3(folder: Path) -> Iterator[S3]:
    """Run a server that keeps its objects below a folder."""
    server = S3(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _await(process: "subprocess.Popen[bytes]", log: Path, ask: Callable[[], None]) -> None:
    for _ in range(_START_SECONDS * 20):
        try:
            return ask()
        except (OSError, psycopg.OperationalError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                break
    raise AssertionError(f"the server does not answer; its last lines:\n{log.read_text('utf-8')[-2000:]}")
