"""
Writing a registry into one file, while others write into the registry.

The catalogue is read in one moment. What its versions need is there then and stays, for nothing removes it, so it is copied afterwards.
"""

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from lastgood.registry import archive, keys, schema
from lastgood.registry.archive import TOLD_EACH, About
from lastgood.registry.catalogue import content_of, weights_of
from lastgood.registry.database import Database
from lastgood.registry.errors import BackupExistsError
from lastgood.registry.events import format_time
from lastgood.registry.log import Clock
from lastgood.registry.store.store import SegmentedStore

OnProgress = Callable[[int, int], None]


def write_backup(database: Database, store: SegmentedStore, file: Path, *, clock: Clock, on_progress: OnProgress | None = None) -> About:
    """
    Write a backup; the file appears whole or not at all.

    Args:
        database: The catalogue.
        store: The files.
        file: Where to; nothing may be there.
        clock: Gives the time.
        on_progress: Is told how many objects are written, of how many.

    Raises:
        BackupExistsError: Something is there already, or there is no such folder.
        IntegrityError: A version's file cannot be read, so that the backup would not be whole.
    """
    if file.exists() or not file.parent.is_dir():
        why = "it is there already, and a backup takes the place of nothing" if file.exists() else f"{file.parent} is no folder"
        raise BackupExistsError(f"{file} cannot be written: {why}. Give another name.")
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as name:
        folder, fresh = Path(name), Path(name, "backup")
        with database.reading() as connection:
            about, wanted = _copy_catalogue(connection, folder)
        kept = sorted(store.objects.iterate(keys.FOLDER))
        needed = sorted(store.list_needed(wanted))
        whole = About(**about, time=format_time(clock()), objects=len(kept) + len(needed), encrypted=bool(kept))
        with fresh.open("xb") as sink:
            with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as out:
                archive.add_bytes(out, archive.ABOUT, msgspec.json.format(msgspec.json.encode(whole)))
                for own in (archive.EVENTS, archive.WRITERS, archive.CONTENTS):
                    out.add(folder / own, own, recursive=False, filter=_forget)
                for index, own in enumerate((*kept, *needed)):
                    lies, data = store.objects.read_kept(own)
                    archive.add_bytes(out, f"{archive.OBJECTS}{lies}", data)
                    if on_progress is not None and index % TOLD_EACH == 0:
                        on_progress(index, whole.objects)
            sink.flush()
            os.fsync(sink.fileno())
        os.link(fresh, file)  # unlike a rename, never in the place of another
    return whole


def _copy_catalogue(connection: Connection, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Write the log and the contents of one moment; give what there is to say of them, and the SHA-256 of all files they name."""
    events, writers = schema.events, schema.writers
    newest = connection.execute(select(events.c.position, events.c.hash).order_by(events.c.position.desc()).limit(1)).one_or_none()
    rows = connection.execution_options(stream_results=True).execute(select(events).order_by(events.c.position)).mappings()
    count = archive.write_lines(folder / archive.EVENTS, (msgspec.json.encode(dict(row)) for row in rows))
    heads = connection.execute(select(writers).order_by(writers.c.writer)).mappings()
    archive.write_lines(folder / archive.WRITERS, (msgspec.json.encode(dict(row)) for row in heads))
    files = [entry.sha256 for entry in weights_of(connection)]
    digests = connection.scalars(select(schema.contents.c.digest).order_by(schema.contents.c.digest)).all()

    def read() -> Iterator[bytes]:
        for digest in digests:
            content = content_of(connection, digest)
            files.extend(entry.sha256 for entry in content.files)
            yield content.to_bytes()

    contents = archive.write_lines(folder / archive.CONTENTS, read())
    position, last = (newest.position, newest.hash) if newest else (0, None)
    return {"position": position, "hash": last, "events": count, "contents": contents}, files


def _forget(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who wrote a member and when: nobody asks, and the machine's accounts are nobody's business."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o444
    return info
