"""
What can go wrong in the registry; the base classes give the exit codes.

    UsageError
    ├── AmbiguousDigestError      a digest prefix that several versions share
    ├── ReservedAliasError        an alias that only a rollout moves, or that means something else
    ├── InvalidEventError         an event that canonical JSON cannot hold
    ├── InvalidSourceError        a file to register that cannot be read
    ├── BackupExistsError         a file that a backup would take the place of
    └── FolderNotEmptyError       a folder that would lose what is in it
    NotFoundError
    ├── ModelNotFoundError, VersionNotFoundError, AliasNotFoundError
    ├── EventNotFoundError
    └── NoTombstoneError          nothing to lift
    TombstonedError
    └── DigestTombstonedError
    IntegrityError
    ├── FileDamagedError, FileMissingError
    ├── SegmentDamagedError       a part of a stored file that cannot be read back
    ├── EventDamagedError, CatalogueDamagedError
    ├── BackupDamagedError        a file that is no whole backup
    └── ContentMismatchError      the files given are not the ones the content lists
    ConflictError
    ├── AliasMovedError, RouteChangedError
    ├── NotEmptyError             a registry that a backup cannot be restored into
    └── KeyReusedError            one idempotency key for two different events
    UnavailableError
    ├── CatalogueUnavailableError
    ├── CollectionBusyError       what was stored was removed again, and again
    └── FilesUnavailableError     a bucket or another place of the stored files that does not answer
    ConfigurationError
    ├── CatalogueUnsupportedError  a database this lastgood cannot read
    ├── FilesUnsupportedError     a place for the stored files that this lastgood cannot use
    └── KeyMissingError, KeyUnusableError  of the encryption of what is stored
"""

from lastgood.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    TombstonedError,
    UnavailableError,
    UsageError,
)


class AmbiguousDigestError(UsageError):
    """A digest prefix that several versions share."""

    code = "registry.ambiguous-digest"


class ReservedAliasError(UsageError):
    """An alias that only a rollout moves, or that means something else."""

    code = "registry.reserved-alias"


class InvalidEventError(UsageError):
    """An event that the log cannot hold: not JSON, too large, or of a kind that has a method of its own."""

    code = "registry.invalid-event"


class InvalidSourceError(UsageError):
    """A file to register or import that cannot be read or is not what it should be."""

    code = "registry.invalid-source"


class FolderNotEmptyError(UsageError):
    """A folder that would lose what is in it."""

    code = "registry.folder-not-empty"


class BackupExistsError(UsageError):
    """A backup cannot be written there: something is there already, or no folder is."""

    code = "registry.backup-exists"


class ModelNotFoundError(NotFoundError):
    """No version of such a model is registered."""

    code = "registry.model-not-found"


class VersionNotFoundError(NotFoundError):
    """The model has no such version."""

    code = "registry.version-not-found"


class AliasNotFoundError(NotFoundError):
    """The model has no such alias."""

    code = "registry.alias-not-found"


class EventNotFoundError(NotFoundError):
    """The log has no such event."""

    code = "registry.event-not-found"


class NoTombstoneError(NotFoundError):
    """The digest is not tombstoned: there is nothing to lift."""

    code = "registry.no-tombstone"


class DigestTombstonedError(TombstonedError):
    """The digest was taken out as bad; a person can lift it with a reason."""

    code = "registry.tombstoned"


class FileDamagedError(IntegrityError):
    """A stored file does not hash to its name."""

    code = "registry.file-damaged"


class SegmentDamagedError(IntegrityError):
    """A part of a stored file cannot be read back."""

    code = "registry.segment-damaged"


class FileMissingError(IntegrityError):
    """A stored file that a version needs is gone."""

    code = "registry.file-missing"


class EventDamagedError(IntegrityError):
    """An event that cannot be read as one."""

    code = "registry.event-damaged"


class CatalogueDamagedError(IntegrityError):
    """The database file is not what was written, or lacks a row that another one names."""

    code = "registry.catalogue-damaged"


class ContentMismatchError(IntegrityError):
    """The files given are not the ones the content lists."""

    code = "registry.content-mismatch"


class BackupDamagedError(IntegrityError):
    """A file is no whole backup of a registry."""

    code = "registry.backup-damaged"


class NotEmptyError(ConflictError):
    """A backup is restored into an empty registry only."""

    code = "registry.not-empty"


class AliasMovedError(ConflictError):
    """Somebody else moved the alias first."""

    code = "registry.alias-moved"


class RouteChangedError(ConflictError):
    """Somebody else wrote the route first."""

    code = "registry.route-changed"


class KeyReusedError(ConflictError):
    """One idempotency key was used for two different events."""

    code = "registry.key-reused"


class CatalogueUnavailableError(UnavailableError):
    """The database is locked for too long, is read-only, or does not answer."""

    code = "registry.unavailable"


class CollectionBusyError(UnavailableError):
    """Collections removed what was stored as often as it was stored."""

    code = "registry.collection-busy"


class FilesUnavailableError(UnavailableError):
    """The place where the files are stored does not answer, does not exist, or refuses."""

    code = "registry.files-unavailable"


class FilesUnsupportedError(ConfigurationError):
    """A place for the stored files that cannot be used: no URL, or one whose driver is not installed."""

    code = "registry.files-unsupported"


class CatalogueUnsupportedError(ConfigurationError):
    """A database URL or format that this lastgood cannot use."""

    code = "registry.unsupported"


class KeyMissingError(ConfigurationError):
    """What is stored is encrypted, and no key is given."""

    code = "registry.key-missing"


class KeyUnusableError(ConfigurationError):
    """The key given is none, or not the one that what is stored is encrypted under."""

    code = "registry.key-unusable"
