"""The file store: what comes out is what went in, or an error that names the file."""

import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.blobs import ABANDONED_SECONDS, CHUNK_BYTES, FileStore, hash_file
from lastgood.registry.errors import FileDamagedError, FileMissingError, InvalidSourceError


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files")


def put(store: FileStore, folder: Path, data: bytes) -> tuple[str, Path]:
    source = folder / "source"
    source.write_bytes(data)
    sha256 = store.put(source)
    return sha256, Path(store.locate(sha256))


@given(st.binary(max_size=4096))
def test_fetch_gives_what_was_put(data: bytes) -> None:
    """Any bytes come back under their SHA-256, and nothing else lies in the store."""
    with tempfile.TemporaryDirectory() as name:
        store = FileStore(Path(name, "files"))
        sha256, _ = put(store, Path(name), data)
        assert hashlib.sha256(data).hexdigest() == sha256
        assert len(data) == store.fetch(sha256, Path(name, "copy"))
        assert data == Path(name, "copy").read_bytes()
        assert [sha256] == list(store.iterate())
        assert [] == list(Path(name, "files", "incoming").iterdir())


@given(st.binary(min_size=1, max_size=256), st.data())
def test_any_flipped_bit_is_found(data: bytes, draw: st.DataObject) -> None:
    """One bit changed anywhere in a stored file is an error that names the file, and no copy of it stays."""
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    with tempfile.TemporaryDirectory() as name:
        store = FileStore(Path(name, "files"))
        sha256, stored = put(store, Path(name), data)
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        stored.chmod(0o644)
        stored.write_bytes(changed)
        with pytest.raises(FileDamagedError, match=sha256[2:]):
            store.verify(sha256)
        with pytest.raises(FileDamagedError, match=sha256[2:]):
            store.fetch(sha256, Path(name, "copy"))
        assert not Path(name, "copy").exists()


def test_put_reads_files_larger_than_a_chunk(store: FileStore, tmp_path: Path) -> None:
    """A file of several chunks is stored whole."""
    data = os.urandom(2 * CHUNK_BYTES + 17)
    sha256, stored = put(store, tmp_path, data)
    assert data == stored.read_bytes()
    assert (sha256, len(data)) == hash_file(stored)


def test_put_repairs_a_damaged_file(store: FileStore, tmp_path: Path) -> None:
    """Registering the same bytes again puts a damaged stored file right."""
    sha256, stored = put(store, tmp_path, b"weights")
    stored.chmod(0o644)
    stored.write_bytes(b"WEIGHTS")
    assert (sha256, stored) == put(store, tmp_path, b"weights")
    assert len(b"weights") == store.verify(sha256)


def test_stored_files_are_read_only(store: FileStore, tmp_path: Path) -> None:
    """Nobody writes into a stored file by accident."""
    _, stored = put(store, tmp_path, b"weights")
    assert 0o444 == stat.S_IMODE(stored.stat().st_mode)


def test_a_missing_file_is_named(store: FileStore, tmp_path: Path) -> None:
    """A stored file that is gone is named, by verify and by fetch."""
    sha256, stored = put(store, tmp_path, b"weights")
    stored.unlink()
    assert not store.exists(sha256)
    with pytest.raises(FileMissingError, match=str(stored)):
        store.verify(sha256)
    with pytest.raises(FileMissingError, match=str(stored)):
        store.fetch(sha256, tmp_path / "copy")


def test_fetch_never_writes_over_a_file(store: FileStore, tmp_path: Path) -> None:
    """A destination that exists stays as it is."""
    sha256, _ = put(store, tmp_path, b"weights")
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        store.fetch(sha256, tmp_path / "copy")
    assert b"mine" == (tmp_path / "copy").read_bytes()


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_put_refuses_what_is_no_file(store: FileStore, tmp_path: Path, name: str) -> None:
    """A folder or nothing cannot be stored, and the message names it."""
    with pytest.raises(InvalidSourceError, match=str(tmp_path / name)):
        store.put(tmp_path / name)


def test_only_abandoned_copies_are_removed(store: FileStore, tmp_path: Path) -> None:
    """Opening the store removes what a killed process left long ago, and nothing that may still be written."""
    old, new = tmp_path / "files/incoming/old", tmp_path / "files/incoming/new"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    FileStore(tmp_path / "files")
    assert [new] == list((tmp_path / "files/incoming").iterdir())
