"""
JSON requests that differ in nothing but their numbers: what stands around them is read once.

Most clients send the same words again and again. Those before and behind the numbers of a version's only input are remembered with what
they said; a body that begins and ends with the same ones is a list of numbers and nothing else. That it is, and not a list inside of
some text or of another field, is proven when the words are remembered: with other numbers in the place, the usual reader must read those.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from lastgood.serving.gateway.kept import keep
from lastgood.serving.gateway.protocol.longlists import NotPlainError
from lastgood.serving.gateway.protocol.plain import ElementReader
from lastgood.serving.gateway.protocol.signature import Call
from lastgood.tensors import DATATYPES, TensorSpec

Words = tuple[bytes, bytes]
_KEPT: Final = 256
_KEPT_BYTES: Final = 2048  # longer words are not remembered


class _Form(NamedTuple):
    call: Call  # without its input
    shape: tuple[int, ...]
    size: int  # elements


class Forms:
    """The words of one version's requests; nothing is remembered where it takes several inputs, or other than numbers."""

    __slots__ = ("_elements", "_known", "_met", "_read")

    def __init__(self, specs: Sequence[TensorSpec], read: Callable[[bytes], Call | None]) -> None:
        """
        Know none.

        Args:
            specs: The version's inputs.
            read: Reads a body in the usual way; None if it cannot.
        """
        fitting = len(specs) == 1 and DATATYPES[specs[0].datatype].kind in "iuf"
        self._elements = ElementReader(specs[0].datatype) if fitting else None
        self._read = read
        self._known: dict[Words, _Form] = {}
        self._met: dict[Words, bool] = {}  # words that came once; True: what is between them is not the input

    def read(self, body: bytes) -> Call | None:
        """Give a request; None if it is not plain, or anything about it is wrong."""
        elements = self._elements
        if elements is None:
            return self._read(body)
        begin = body.find(b"[", body.find(b'"data"'))
        end = body.find(b"]", begin) + 1
        words = (body[:begin], body[end:])
        form = self._known.get(words)
        if form is None:
            call = self._read(body)
            if call is not None and call.id is None and 0 < begin < end:  # an id comes once
                self._meet(words, call)
            return call
        try:
            array = elements.read(body[begin:end], form.shape, form.size)
        except NotPlainError:
            return self._read(body)
        return form.call.with_inputs((array,))

    def _meet(self, words: Words, call: Call) -> None:
        """Remember words that come for the second time."""
        refused = self._met.get(words)
        if refused or len(words[0]) + len(words[1]) > _KEPT_BYTES:
            return
        if refused is None:
            keep(self._met, words, False, _KEPT)
            return
        array = call.inputs[0]
        others = np.arange(array.size) % 2 + (array.ravel()[0] == 0)  # other numbers than were there
        read = self._read(b"%b[%b]%b" % (words[0], b",".join([b"%d" % number for number in others.tolist()]), words[1]))
        if read is None or read.inputs[0].shape != array.shape or not np.array_equal(read.inputs[0].ravel(), others):
            self._met[words] = True
            return
        keep(self._known, words, _Form(call.with_inputs(()), array.shape, array.size), _KEPT)
