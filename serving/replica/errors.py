"""Why a replica does not get ready."""

from lastgood.errors import IntegrityError, UsageError


class FileChangedError(IntegrityError):
    """A file of the version, or its content, is not the one that was registered."""

    code = "serving.file-changed"


class GoldenMismatchError(IntegrityError):
    """The loaded model does not give the answers that the tested file gave."""

    code = "serving.golden-mismatch"


class SignatureMismatchError(IntegrityError):
    """The loaded model takes or gives other tensors than its content says."""

    code = "serving.signature-mismatch"


class SlotError(UsageError):
    """A slot holds no readable tensors, or they would not fit."""

    code = "serving.slot"
