"""The Open Inference Protocol's datatypes, and what a model takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lastgood.errors import IntegrityError

# Datatype names of the Open Inference Protocol, version 2, section "Tensor Data Types". BYTES is a numpy object array of str.
DATATYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype(np.uint8),
        "UINT16": np.dtype(np.uint16),
        "UINT32": np.dtype(np.uint32),
        "UINT64": np.dtype(np.uint64),
        "INT8": np.dtype(np.int8),
        "INT16": np.dtype(np.int16),
        "INT32": np.dtype(np.int32),
        "INT64": np.dtype(np.int64),
        "FP16": np.dtype(np.float16),
        "FP32": np.dtype(np.float32),
        "FP64": np.dtype(np.float64),
        "BYTES": np.dtype(object),
    }
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model: its name, protocol datatype, and shape with -1 where a size may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the form the protocol's model metadata uses."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TensorSpec":
        """
        Read what `to_json` wrote.

        Raises:
            IntegrityError: The datatype is not one of the protocol's, or the shape not a list of integers from -1.
        """
        datatype, shape = value["datatype"], value["shape"]
        if datatype not in DATATYPES:
            raise IntegrityError(f"Tensor {value['name']!r} has datatype {datatype!r}; expected one of {', '.join(DATATYPES)}.")
        if not all(isinstance(size, int) and size >= -1 for size in shape):
            raise IntegrityError(f"Tensor {value['name']!r} has shape {shape!r}; expected integers, -1 where a size may vary.")
        return cls(str(value["name"]), datatype, tuple(shape))
