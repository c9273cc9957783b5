"""
Compiles the modules that every request passes through, where that is asked for: ``LASTGOOD_COMPILE=1 pip install .``

The same sources run uncompiled, and slower. mypyc turns them, as they are typed, into one C extension; what is left out cannot be
compiled (message classes that other libraries make) or would gain nothing. Everything else about the package is in pyproject.toml.
"""

import importlib.util
import os
from pathlib import Path

from setuptools import Extension, setup

ASKED = os.environ.get("LASTGOOD_COMPILE") == "1"
SOURCES = Path("src/lastgood/serving")
PATTERNS = (
    "gateway/brake.py",
    "gateway/charges.py",
    "gateway/grpc/inference.py",
    "gateway/http/[!_]*.py",
    "gateway/inference.py",
    "gateway/kept.py",
    "gateway/limits.py",
    "gateway/meters/meters.py",
    "gateway/observation/feed.py",
    "gateway/observation/gathering.py",
    "gateway/pool/[!_]*.py",
    "gateway/protocol/[!_]*.py",
    "gateway/reception.py",
    "gateway/rest.py",
    "gateway/route.py",
    "gateway/sleep/bed.py",
    "gateway/telemetry/context.py",
    "gateway/wakefulness.py",
    "replica/layout.py",
    "replica/notices.py",
    "replica/slots.py",
)
LEFT_OUT = {"envelope.py", "listening.py"}  # msgspec makes the classes of one; the other is for the start only


def find_extensions() -> list[Extension]:
    """Give what is to be compiled."""
    if not ASKED or importlib.util.find_spec("mypyc") is None:  # it is asked for below, and there when something is built
        return []
    from mypyc.build import mypycify

    found = {path for pattern in PATTERNS for path in SOURCES.glob(pattern) if path.name not in LEFT_OUT}
    extensions: list[Extension] = mypycify([str(path) for path in sorted(found)], opt_level="3", debug_level="0", group_name="lastgood")
    return extensions


setup(ext_modules=find_extensions(), setup_requires=["mypy>=1.18"] if ASKED else [])
