"""From what a person wrote to the version that is meant, or to a sentence that helps."""

from collections.abc import Iterable
from difflib import get_close_matches

from sqlalchemy import Connection

from lastgood.refs import LATEST, Ref
from lastgood.registry import catalogue
from lastgood.registry.errors import AliasNotFoundError, AmbiguousDigestError, ModelNotFoundError, VersionNotFoundError
from lastgood.registry.rows import Version

SHOWN = 8  # names listed in a message


def require_versions(connection: Connection, model: str) -> list[Version]:
    """
    Give a model's versions, oldest first.

    Raises:
        ModelNotFoundError: The model has none.
    """
    versions = catalogue.versions_of(connection, model)
    if not versions:
        names = catalogue.model_names(connection)
        raise ModelNotFoundError(f"No model {model!r} is registered.{_suggest(model, names)}{_listing('Models', names)}")
    return versions


def resolve(connection: Connection, ref: Ref) -> Version:
    """
    Give the version a reference names.

    A digest that several models have, where the reference names no model, is the version registered first.

    Raises:
        ModelNotFoundError: There is no such model.
        VersionNotFoundError: The model has no such number or digest.
        AliasNotFoundError: The model has no such alias.
        AmbiguousDigestError: Several digests start so.
    """
    if ref.digest is not None:
        return _by_digest(connection, ref.digest, ref.model)
    if ref.model is None:
        raise VersionNotFoundError(f"{ref} names no model; expected MODEL@NUMBER, MODEL@ALIAS or a digest.")
    versions = require_versions(connection, ref.model)
    if ref.number is not None:
        return _by_number(versions, ref.number)
    if ref.alias == LATEST:
        return versions[-1]
    return _by_alias(connection, versions, str(ref.alias))


def _by_digest(connection: Connection, digest: str, model: str | None) -> Version:
    if model is not None:
        require_versions(connection, model)
    found = catalogue.versions_like(connection, digest, model)
    digests = sorted({version.digest for version in found})
    if len(digests) > 1:
        names = [f"{version} {version.digest[: len(digest) + 6]}…" for version in found]
        raise AmbiguousDigestError(
            f"{len(digests)} digests start with {digest}: {', '.join(names[:SHOWN])}. Give more of the one you mean."
        )
    if not found:
        where = f"{model} has no version" if model else "No version is registered"
        raise VersionNotFoundError(f"{where} with a digest that starts with {digest}. `lastgood list` shows what there is.")
    return found[0]


def _by_number(versions: list[Version], number: int) -> Version:
    for version in versions:
        if version.number == number:
            return version
    newest = versions[-1]
    raise VersionNotFoundError(f"{newest.model} has no version {number}; its newest is {newest}.")


def _by_alias(connection: Connection, versions: list[Version], name: str) -> Version:
    model = versions[0].model
    aliases = catalogue.aliases_of(connection, model)
    if name not in aliases:
        hint = " It is set by a rollout: `lastgood deploy`." if name in {"live", "stable"} else _suggest(name, [*aliases, LATEST])
        raise AliasNotFoundError(f"{model} has no alias {name!r}.{hint}{_listing('Aliases', aliases)}")
    number = aliases[name].number
    return next(version for version in versions if version.number == number)


def _suggest(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _listing(title: str, names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f" {title}: {', '.join(listed[:SHOWN])}{more}." if listed else ""
