"""The two kinds of places in which a registry is tested, and what a test does to one behind the registry's back."""

import shutil
import sqlite3
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from sqlalchemy.engine import make_url

from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.servers import S3, PostgreSQL

LOCAL, REMOTE = "folder+sqlite", "s3+postgresql"
only_local = pytest.mark.parametrize("places", [LOCAL], indirect=True)  # for what is about SQLite's file, or the folder, itself


class Places(Protocol):
    """Makes the settings of registries that do not exist yet."""

    def new(self, folder: Path) -> Settings:
        """Give those of one whose home is below a folder."""
        ...

    def copy(self, settings: Settings, folder: Path) -> Settings:
        """Give those of one that is what another, which nobody has open, is now; it may share the other's files."""
        ...


class LocalPlaces:
    """A folder with SQLite's file in it."""

    def new(self, folder: Path) -> Settings:
        return Settings(project=folder, home=folder / "home")

    def copy(self, settings: Settings, folder: Path) -> Settings:
        shutil.copytree(settings.home, folder / "home")
        return self.new(folder)


class RemotePlaces:
    """A prefix of a bucket, and a database."""

    def __init__(self, postgresql: PostgreSQL, s3: S3) -> None:
        self._postgresql = postgresql
        self._s3 = s3
        self._databases: list[str] = []

    def new(self, folder: Path) -> Settings:
        return self._make(folder, self._s3.create(), "template1")

    def copy(self, settings: Settings, folder: Path) -> Settings:
        return self._make(folder, settings.files_place, make_url(settings.database_url).database or "")

    def close(self) -> None:
        """Remove the databases; the bucket goes with its server."""
        for name in self._databases:
            self._postgresql.drop(name)

    def _make(self, folder: Path, files: str, template: str) -> Settings:
        name = self._postgresql.create(template=template)
        self._databases.append(name)
        return Settings(project=folder, home=folder / "home", database=self._postgresql.url(name), files=files)


def change(settings: Settings, statement: str, *values: int) -> int:
    """
    Change the database as somebody would who knows how, around the rules, those of references too; give the rows changed.

    Each ? in the statement stands for a value.
    """
    if settings.database is not None:
        with psycopg.connect(settings.database) as there:
            there.execute("SET session_replication_role = replica")
            return there.execute(statement.replace("?", "%s").encode(), values or None).rowcount
    here = sqlite3.connect(settings.home / "registry" / "catalogue.db")
    for name in [row[0] for row in here.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
        here.execute(f"DROP TRIGGER {name}")
    count = here.execute(statement, values).rowcount
    here.commit()
    here.close()
    return count


def flip(registry: Registry, sha256: str, *, bit: int = -1) -> None:
    """Change one bit of what is stored under a file's SHA-256."""
    name = name_of(sha256)
    data = bytearray(registry._files.store._objects.read(name))
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    registry._files.store._objects.write(name, bytes(data))


def name_of(sha256: str) -> str:
    """Give the name of a stored file's object."""
    return f"files/{sha256[:2]}/{sha256[2:]}"
