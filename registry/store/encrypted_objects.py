"""
Objects that are kept encrypted, under encrypted names.

A name is encrypted so that the same one always gives the same (AES-SIV, RFC 5297): what is stored once is stored once here, too. An
object's bytes are encrypted by AES-256-GCM with a key of its own, derived from its name, in two parts: what is read alone to see what a
segment needs, and the rest. An object that is another's, or whose bits were changed, is damaged.

Objects that were stored before encryption began are read as they are.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from lastgood.registry.errors import FileDamagedError, FileMissingError
from lastgood.registry.store.objects import SEALED, Objects

MAGIC: Final = b"LGE1"
NAME_KEY_BYTES: Final = 64
CONTENT_KEY_BYTES: Final = 32
_HEAD_BYTES_MAX: Final = 64  # of an object, read alone
_NONCE_BYTES: Final = 11  # and one that counts the parts
_TAG_BYTES: Final = 16
_START: Final = len(MAGIC) + 1 + _NONCE_BYTES  # the magic, the bytes of the first part, the nonce


@dataclass(frozen=True, slots=True)
class DataKeys:
    """What names and contents are encrypted with; never shown."""

    names: bytes = field(repr=False)
    contents: bytes = field(repr=False)

    @classmethod
    def make(cls) -> "DataKeys":
        """Draw new ones."""
        return cls(os.urandom(NAME_KEY_BYTES), os.urandom(CONTENT_KEY_BYTES))


class EncryptedObjects:
    """Objects whose names and bytes whoever keeps them cannot read; threads may share it."""

    def __init__(self, objects: Objects, keys: DataKeys) -> None:
        """Keep them there, with these keys."""
        self._objects = objects
        self._keys = keys
        self.is_here = objects.is_here

    @cached_property
    def _names(self) -> AESSIV:
        return AESSIV(self._keys.names)

    def write(self, name: str, data: bytes) -> None:
        """Write an object whole, in the place of one that may be there."""
        head, rest = data[:_HEAD_BYTES_MAX], memoryview(data)[_HEAD_BYTES_MAX:]
        cipher, nonce, about = self._cipher(name), os.urandom(_NONCE_BYTES), MAGIC + bytes([len(head)])
        parts = cipher.encrypt(nonce + b"\0", head, about), cipher.encrypt(nonce + b"\1", rest, about)
        self._objects.write(self._hide(name), b"".join((about, nonce, *parts)))

    def settle(self) -> None:
        """Return when everything that was written survives a power cut."""
        self._objects.settle()

    def read(self, name: str, first: int | None = None) -> bytes:
        """
        Read an object whole, or so many of its first bytes.

        Raises:
            FileMissingError: There is none.
            FileDamagedError: It cannot be read, was changed, or is another one.
        """
        alone = first is not None and first <= _HEAD_BYTES_MAX
        try:
            data = self._objects.read(self._hide(name), _START + _HEAD_BYTES_MAX + _TAG_BYTES if alone else None)
        except FileMissingError:
            return self._objects.read(name, first)
        try:
            return self._decrypt(name, memoryview(data), alone=alone)[:first]
        except (InvalidTag, ValueError) as exc:
            raise FileDamagedError(
                f"The stored object {self.locate(name)} cannot be decrypted: it was changed, or is another one. Put it back from a backup."
            ) from exc

    def _decrypt(self, name: str, data: memoryview, *, alone: bool) -> bytes:
        about, nonce, cipher = bytes(data[: len(MAGIC) + 1]), bytes(data[len(MAGIC) + 1 : _START]), self._cipher(name)
        if len(data) < _START or about[:-1] != MAGIC:
            raise InvalidTag
        end = _START + about[-1] + _TAG_BYTES
        head = cipher.decrypt(nonce + b"\0", data[_START:end], about)
        return head if alone else head + cipher.decrypt(nonce + b"\1", data[end:], about)

    def read_kept(self, name: str) -> tuple[str, bytes]:
        """Give an object as it lies there: under which name, and its bytes. Errors as `read`."""
        hidden = self._hide(name)
        try:
            return hidden, self._objects.read(hidden)
        except FileMissingError:
            return name, self._objects.read(name)

    def exists(self, name: str) -> bool:
        """Say whether there is such an object, without reading it."""
        return self._objects.exists(self._hide(name)) or self._objects.exists(name)

    def measure(self, name: str) -> tuple[int, float] | None:
        """Give an object's bytes as they are kept and the time it was written, in seconds since 1970; None where there is none."""
        return self._objects.measure(self._hide(name)) or self._objects.measure(name)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        self._objects.remove([own for name in names for own in (self._hide(name), name)])

    def iterate(self, prefix: str) -> Iterator[str]:
        """Give the names of all objects below a prefix, those that are encrypted first, in no order."""
        for hidden in self._objects.iterate(f"{SEALED}/{prefix}"):
            yield self._show(hidden)
        yield from self._objects.iterate(prefix)

    def locate(self, name: str) -> str:
        """Say where an object is or would be, for a person to look at."""
        hidden = self._hide(name)
        return self._objects.locate(hidden if self._objects.exists(hidden) or not self._objects.exists(name) else name)

    def _cipher(self, name: str) -> AESGCM:
        derive = hmac.HMAC(self._keys.contents, hashes.SHA256())
        derive.update(name.encode())
        return AESGCM(derive.finalize())

    def _hide(self, name: str) -> str:
        folder, _, own = name.partition("/")
        hidden = self._names.encrypt(bytes.fromhex(own.replace("/", "")), [folder.encode()]).hex()
        return f"{SEALED}/{folder}/{hidden[:2]}/{hidden[2:]}"

    def _show(self, hidden: str) -> str:
        _, folder, own = hidden.split("/", 2)
        try:
            shown = self._names.decrypt(bytes.fromhex(own.replace("/", "")), [folder.encode()]).hex()
        except (InvalidTag, ValueError) as exc:
            raise FileDamagedError(
                f"The stored object {self._objects.locate(hidden)} has a name that no key here gave it: it is none of this registry's."
            ) from exc
        return f"{folder}/{shown[:2]}/{shown[2:]}"
