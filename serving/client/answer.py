"""An answer, and who gave it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastgood.tensors import DATATYPES

Array = np.ndarray[Any, Any]
_NAMES: Mapping[np.dtype[Any], str] = {dtype: name for name, dtype in DATATYPES.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer of a model.

    Attributes:
        model: Whose.
        version: The number of the version that computed it.
        role: Of that version in the rollout when it answered: ``live``, ``candidate``, ``baseline``; None where the server says none.
        id: Of the request; labels for it are told under it.
        outputs: By name; texts are arrays of objects. Those that came in binary form may be read, not written.
        tries: How many attempts it took.
        seconds: From the call to the answer, waiting between attempts included.
    """

    model: str
    version: int
    role: str | None
    id: str
    outputs: Mapping[str, Array]
    tries: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the form that the protocol has for it, with flat lists of elements."""
        outputs = [
            {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in self.outputs.items()
        ]
        return {"model_name": self.model, "model_version": str(self.version), "id": self.id, "outputs": outputs}


def datatype_of(array: Array) -> str | None:
    """Give the protocol's name of an array's type, None where it has none."""
    return _NAMES.get(array.dtype.newbyteorder("="))
