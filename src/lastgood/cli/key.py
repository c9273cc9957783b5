"""``lastgood key``: the key that stored files are encrypted under."""

import os
from pathlib import Path
from typing import Literal

from lastgood.cli.output import print_line


def key(action: Literal["new", "rotate"], file: Path, /) -> None:
    """
    Write a new encryption key into a file, or have stored files encrypted under the one in it from now on.

    Name the file in lastgood.toml, encryption_key_file, and keep a copy of it elsewhere: without it nothing that is stored can be
    read again. `rotate` needs the key used so far, where it is named now, writes no stored file again, and leaves processes that run
    alone; name the new one afterwards. What was stored before the first key stays as it was.

    Example: lastgood key new secrets/registry.key

    Args:
        action: What to do.
        file: Of `new`: must not be there; nobody else may read it.
    """
    if action == "new":
        _write(file)
        print_line(f"Wrote {file}. Keep a copy elsewhere: without it nothing that is stored under it can be read again.")
        return
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        registry.rotate_key(file)
    print_line(f"Stored files are encrypted under the key in {file} now: name it in the place of the other one.")


def _write(file: Path) -> None:
    from lastgood.errors import UsageError
    from lastgood.registry.keys import new_key

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as exc:
        raise UsageError(f"{file} is there already; a key is never written over. Give another name.") from exc
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise UsageError(f"{file} cannot be written: {file.parent} is no folder.") from exc
    with os.fdopen(descriptor, "w", encoding="ascii") as sink:
        sink.write(new_key() + "\n")
        sink.flush()
        os.fsync(descriptor)
