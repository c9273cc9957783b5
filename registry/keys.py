"""
The key that stored bytes are encrypted under, and the keys it unlocks.

What encrypts names and contents (`DataKeys`) is drawn once, and kept among the objects encrypted under the key that the installation is
given: ``keys/ID``, where ID tells keys apart and says nothing about them. Another key is given to the installation by encrypting the same
data keys under it: nothing else is written again.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastgood.registry.errors import KeyMissingError, KeyUnusableError
from lastgood.registry.store.objects import Objects

if TYPE_CHECKING:  # imported where there is a key: it takes a tenth of a second
    from lastgood.registry.store.encrypted_objects import DataKeys

VARIABLE: Final = "LASTGOOD_ENCRYPTION_KEY"
FOLDER: Final = "keys"
_KEY_BYTES: Final = 32
_MAGIC: Final = b"LGK1"
_NONCE_BYTES: Final = 12
_ABOUT: Final = b"lastgood key"


def new_key() -> str:
    """Draw a key, as `read_key` reads it."""
    return os.urandom(_KEY_BYTES).hex()


def read_key(file: Path | None) -> bytes | None:
    """
    Give the installation's key: from its file, else from the environment, else None.

    Raises:
        KeyUnusableError: It cannot be read, or is none.
    """
    where = str(file) if file is not None else VARIABLE
    try:
        text = file.read_text("ascii") if file is not None else os.environ.get(VARIABLE)
    except FileNotFoundError as exc:
        raise KeyUnusableError(f"The encryption key's file {where} is not there; `lastgood key new FILE` writes one.") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyUnusableError(f"The encryption key's file {where} cannot be read as text: {exc}.") from exc
    if text is None:
        return None
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyUnusableError(f"{where} holds no encryption key; expected {2 * _KEY_BYTES} hex digits, as `lastgood key new FILE` writes.")
    return key


def unlock(objects: Objects, key: bytes | None, lock: Callable[[], AbstractContextManager[object]]) -> Objects:
    """
    Give the objects as they are read and written with a key.

    Args:
        objects: Where they are kept.
        key: The installation's; None: they are not encrypted.
        lock: Gives what only one process holds, for the data keys are drawn once.

    Raises:
        KeyMissingError: They are encrypted, and there is no key.
        KeyUnusableError: They are encrypted under another key, or the keys kept there were changed.
    """
    kept = sorted(objects.iterate(FOLDER))
    if key is None:
        if kept:
            raise KeyMissingError(
                f"The stored files are encrypted, under a key of {objects.locate(FOLDER)}, and none is given: set encryption_key_file in "
                f"lastgood.toml, or {VARIABLE}."
            )
        return objects
    from lastgood.registry.store.encrypted_objects import DataKeys, EncryptedObjects

    if not kept:
        with lock():
            if not any(objects.iterate(FOLDER)):
                _write(objects, key, DataKeys.make())
    return EncryptedObjects(objects, _read(objects, key))


def rotate(objects: Objects, old: bytes | None, new: bytes | None) -> None:
    """
    Encrypt the data keys under a new key in the place of the old one; processes that run go on with what they have unlocked.

    Args:
        objects: Where they are kept, themselves not encrypted.
        old: The installation's key.
        new: What takes its place.

    Raises:
        KeyMissingError: One is not given.
        KeyUnusableError: They are not encrypted under the old one.
    """
    if old is None or new is None:
        raise KeyMissingError(f"Nothing is encrypted under a key yet, or none is given: set encryption_key_file, or {VARIABLE}, first.")
    _write(objects, new, _read(objects, old))
    _read(objects, new)
    if old != new:
        objects.remove([_path(old)])


def _write(objects: Objects, key: bytes, keys: "DataKeys") -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    objects.write(_path(key), _MAGIC + nonce + AESGCM(key).encrypt(nonce, keys.names + keys.contents, _MAGIC))
    objects.settle()


def _read(objects: Objects, key: bytes) -> "DataKeys":
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from lastgood.registry.store.encrypted_objects import CONTENT_KEY_BYTES, NAME_KEY_BYTES, DataKeys

    name = _path(key)
    if not objects.exists(name):
        kept = ", ".join(own.removeprefix(f"{FOLDER}/") for own in objects.iterate(FOLDER)) or "none"
        raise KeyUnusableError(
            f"The stored files are not encrypted under the key given ({name.removeprefix(f'{FOLDER}/')}): {objects.locate(FOLDER)} has "
            f"{kept}. Give that one."
        )
    data, start = objects.read(name), len(_MAGIC) + _NONCE_BYTES
    try:
        found = AESGCM(key).decrypt(data[len(_MAGIC) : start], data[start:], _MAGIC)
    except (InvalidTag, ValueError) as exc:
        raise KeyUnusableError(f"{objects.locate(name)}, which holds the keys of all that is stored, was changed. Restore it.") from exc
    if len(found) != NAME_KEY_BYTES + CONTENT_KEY_BYTES:
        raise KeyUnusableError(f"{objects.locate(name)} holds {len(found)} bytes of keys; expected {NAME_KEY_BYTES + CONTENT_KEY_BYTES}.")
    return DataKeys(found[:NAME_KEY_BYTES], found[NAME_KEY_BYTES:])


def _path(key: bytes) -> str:
    return f"{FOLDER}/{hmac.new(key, _ABOUT, hashlib.sha256).hexdigest()[:16]}"
