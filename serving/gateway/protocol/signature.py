"""What a version takes and gives, whatever protocol a request comes by: names, datatypes, shapes, and what may be joined."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lastgood.registry.content import Content
from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.pool.pending import Key
from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES, TensorSpec

ID_LIMIT: Final = 256
_LARGEST: Final = 1 << 40  # elements; numpy refuses shapes of some more, also where one size is 0
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_STATEFUL = frozenset({"sequence_id", "sequence_start", "sequence_end"})


class Call:
    """A decoded request."""

    __slots__ = ("binary", "id", "inputs", "key", "outputs", "rows", "timeout_seconds")

    def __init__(
        self,
        request_id: str | None,
        inputs: tuple[Array, ...],
        key: Key | None,
        rows: int,
        outputs: Sequence[int],
        binary: frozenset[int] = frozenset(),
        timeout_seconds: float = math.inf,
    ) -> None:
        """
        Keep what was read.

        Args:
            request_id: Of the client's choice, if it made one.
            inputs: In the content's order.
            key: What it may be joined with; None is nothing.
            rows: Length of the first axis, 1 where nothing is joined.
            outputs: Which ones it wants, by position.
            binary: Those of them that are wanted in binary form.
            timeout_seconds: How long its client waits.
        """
        self.id = request_id
        self.inputs = inputs
        self.key = key
        self.rows = rows
        self.outputs = outputs
        self.binary = binary
        self.timeout_seconds = timeout_seconds

    def with_inputs(self, inputs: tuple[Array, ...]) -> "Call":
        """Give the same request with other inputs, of the same shapes."""
        return Call(self.id, inputs, self.key, self.rows, self.outputs, self.binary, self.timeout_seconds)


class Signature:
    """One version's inputs and outputs, and the checks of requests against them."""

    def __init__(self, model: str, number: int, content: Content, *, joins: bool) -> None:
        """
        Prepare for a version.

        Args:
            model: Its model.
            number: Its number.
            content: Its inputs and outputs.
            joins: Whether requests may be joined along the first axis.
        """
        self.title = f"{model}@{number}"
        self.inputs = content.inputs
        self.outputs = content.outputs
        self.all_outputs = range(len(content.outputs))
        self._positions = {spec.name: position for position, spec in enumerate(content.inputs)}
        self._output_positions = {spec.name: position for position, spec in enumerate(content.outputs)}
        self._joins = joins
        # Where only the first axis varies every request fits to every other.
        self._one_key = joins and all(-1 not in spec.shape[1:] for spec in content.inputs)

    def find_input(self, name: str, datatype: str, shape: Sequence[int], where: str) -> int:
        """
        Give an input's position.

        Args:
            name: As the request says.
            datatype: As the request says.
            shape: As the request says.
            where: What an error is to call it, such as ``inputs[0]``.

        Raises:
            BadRequestError: There is no such input, or it is of another datatype or shape; names the field.
        """
        position = self._positions.get(name)
        if position is None:
            raise BadRequestError(f"{where}.name is {name[:80]!r}; {self.title} takes {_list(self.inputs)}.")
        spec = self.inputs[position]
        if datatype != spec.datatype:
            raise BadRequestError(f"{where}.datatype is {datatype[:40]!r}; input {spec.name!r} is {spec.datatype}.")
        if len(shape) != len(spec.shape) or any(size < 0 or size != wanted >= 0 for size, wanted in zip(shape, spec.shape, strict=True)):
            raise BadRequestError(
                f"{where}.shape is {list(shape[:16])}; input {spec.name!r} takes {list(spec.shape)}, where -1 is any size."
            )
        # Of no elements, so that no count of them tells.
        if 0 in shape and math.prod(size or 1 for size in shape) > _LARGEST:
            raise BadRequestError(f"{where}.shape is {list(shape[:16])}; expected sizes that a tensor can have.")
        return position

    def arrange(self, given: Mapping[int, Array]) -> tuple[tuple[Array, ...], Key | None, int]:
        """
        Put inputs in the content's order, and say what they may be joined with and how many rows they have.

        Raises:
            BadRequestError: One is missing, or they differ in their rows.
        """
        if len(given) < len(self.inputs):
            missing = next(spec.name for position, spec in enumerate(self.inputs) if position not in given)
            raise BadRequestError(f"inputs lacks {missing!r}; {self.title} takes {_list(self.inputs)}.")
        whole = tuple(given[position] for position in range(len(self.inputs)))
        return whole, *self.join(whole)

    def join(self, whole: tuple[Array, ...]) -> tuple[Key | None, int]:
        """
        Say what inputs may be joined with, and how many rows they have.

        Raises:
            BadRequestError: They differ in their rows.
        """
        if not self._joins:
            return None, 1
        rows = whole[0].shape[0]
        if len(whole) == 1:
            return () if self._one_key else (whole[0].shape[1:],), rows
        for spec, array in zip(self.inputs, whole, strict=True):
            if array.shape[0] != rows:
                raise BadRequestError(
                    f"Input {spec.name!r} has {array.shape[0]} rows, {self.inputs[0].name!r} has {rows}; expected the same in each."
                )
        return () if self._one_key else tuple(array.shape[1:] for array in whole), rows

    def find_outputs(self, names: Sequence[str]) -> list[int]:
        """
        Give the positions of outputs that are asked for.

        Raises:
            BadRequestError: There is no such output, or one is named twice.
        """
        chosen: list[int] = []
        for index, name in enumerate(names):
            position = self._output_positions.get(name)
            if position is None:
                raise BadRequestError(f"outputs[{index}].name is {name[:80]!r}; {self.title} gives {_list(self.outputs)}.")
            if position in chosen:
                raise BadRequestError(f"outputs[{index}].name is {name!r}, which was asked for before; expected each output once.")
            chosen.append(position)
        return chosen

    def answer_nothing(self) -> Outputs:
        """
        Give the outputs for no rows, which no model need compute.

        Raises:
            BadRequestError: Their other sizes are known to the model only.
        """
        if any(-1 in spec.shape[1:] for spec in self.outputs):
            raise BadRequestError(f"The request has no rows, and what {self.title} gives for none is not known; expected 1 row or more.")
        arrays = [np.empty((0, *spec.shape[1:]), DATATYPES[spec.datatype]) for spec in self.outputs]
        return Outputs(arrays, 0, joined=True)


def check_id(request_id: str) -> None:
    """
    Refuse an id that is too long to be kept, or would break the lines of a log or of a terminal.

    Raises:
        BadRequestError: It is.
    """
    if len(request_id) > ID_LIMIT:
        raise BadRequestError(f"id has {len(request_id)} characters; {ID_LIMIT} are allowed.")
    if not request_id.isprintable() and (found := _CONTROL.search(request_id)):
        raise BadRequestError(f"id has the control character {found[0]!r} at position {found.start()}; expected none.")


def read_timeout(parameters: Mapping[str, Any]) -> float:
    """
    Give how long the client waits, in seconds: ``timeout`` in microseconds, as Triton has it; infinity where it does not say.

    Refuses what would change the answer and is not done here; what is not known otherwise is ignored, as the protocol says.

    Raises:
        BadRequestError: The time is none, or the request belongs to a sequence.
    """
    if found := sorted(_STATEFUL.intersection(parameters)):
        raise BadRequestError(f"parameters.{found[0]} is set; models here keep no state from request to request.")
    timeout = parameters.get("timeout")
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise BadRequestError(f"parameters.timeout is {timeout!r:.40}; expected microseconds, a whole number above 0.")
    return timeout / 1e6


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} ({spec.datatype} {list(spec.shape)})" for spec in specs)
