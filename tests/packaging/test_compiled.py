"""The compiled package: built as an image builds it, and through the tests that the uncompiled one passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the package in it, compiled."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compiled.py"), "--where"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("compiled"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=environment)
    assert 0 == done.returncode, done.stderr[-4000:]
    return Path(done.stdout.strip())


def run(package: Path, *arguments: str, seconds: float = 280) -> subprocess.CompletedProcess[str]:
    """Run this Python with the compiled package before all others."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environment, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_compiled_package_passes_the_same_tests(package: Path) -> None:
    """Requests get the same answers; wrong ones the same refusals."""
    found = run(
        package,
        "-P",
        "-c",
        "import lastgood.serving.gateway.route as r, lastgood.serving.replica.slots as s; print(r.__file__, s.__file__)",
    )
    assert [(True, True)] * 2 == [(str(package) in name, name.endswith(".so")) for name in found.stdout.split()], found.stderr
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-m", "not interpreted and not system", "--timeout=200"]
    done = run(package, "-m", "pytest", *options, "tests/serving", seconds=800)
    assert 0 == done.returncode, done.stdout[-6000:]
    assert " passed" in done.stdout
