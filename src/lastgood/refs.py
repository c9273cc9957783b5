"""
How a person names a version: ``digits@7``, ``digits@live``, ``sha256:9f2c…``, ``digits@sha256:9f2c…``.

A reference is recognised by ``@`` or a leading ``sha256:``; a slash or a suffix makes a file, anything else is
a model's name.
"""

import re
from dataclasses import dataclass

from lastgood.errors import UsageError

MODEL_PATTERN = r"[a-z][a-z0-9_-]{0,62}"
ALIAS_PATTERN = r"[a-z][a-z0-9_.-]{0,62}"
_MODEL = re.compile(MODEL_PATTERN)
_ALIAS = re.compile(ALIAS_PATTERN)
_DIGEST = re.compile(r"sha256:[0-9a-f]{6,64}")
LATEST = "latest"  # selector of a bare model name: its newest version


class InvalidRefError(UsageError):
    """A text that names no version, whatever is registered."""

    code = "refs.invalid"


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference; exactly one of ``number``, ``digest`` and ``alias`` is set."""

    model: str | None
    number: int | None = None
    digest: str | None = None  # "sha256:" and 6 to 64 hex digits: a prefix is enough
    alias: str | None = None

    def __str__(self) -> str:
        """Give the text that parses to this reference."""
        selector = self.digest or self.alias or str(self.number)
        return f"{self.model}@{selector}" if self.model else selector


def check_model_name(name: str) -> str:
    """
    Give the name back if it can name a model.

    Raises:
        InvalidRefError: It is not lower-case letters, digits, ``-`` and ``_``, starting with a letter, 63 at most.
    """
    if not _MODEL.fullmatch(name):
        raise InvalidRefError(
            f"{name[:80]!r} cannot name a model: expected lower-case letters, digits, '-' and '_', starting with a letter, 63 at most."
        )
    return name


def parse_ref(text: str) -> Ref:
    """
    Parse ``MODEL``, ``MODEL@NUMBER``, ``MODEL@ALIAS``, ``MODEL@sha256:…`` or ``sha256:…``.

    A bare model name stands for its newest version (alias ``latest``).

    Raises:
        InvalidRefError: The text is none of these.
    """
    if _DIGEST.fullmatch(text):
        return Ref(None, digest=text)
    model, at, selector = text.partition("@")
    check_model_name(model)
    if not at:
        return Ref(model, alias=LATEST)
    if selector.isascii() and selector.isdigit() and len(selector) < 10 and int(selector) > 0:
        return Ref(model, number=int(selector))
    if _DIGEST.fullmatch(selector):
        return Ref(model, digest=selector)
    if _ALIAS.fullmatch(selector):
        return Ref(model, alias=selector)
    raise InvalidRefError(
        f"{text[:120]!r} names no version: after '@' expected a number (digits@7), an alias (digits@live) or a digest (sha256:9f2c…)."
    )
