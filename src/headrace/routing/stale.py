"""What skills answered before, for whoever asks the same again when they cannot answer. Pure: the time comes in.

Kept by what was asked (`fingerprint`) of which inputs and outputs: a version that takes or gives others asks and answers
something else, whatever it is called.
"""

from typing import NamedTuple

import numpy as np

from headrace.faults.quarantine import fingerprint
from headrace.messages import InferRequest, ModelSpec
from headrace.parts import BatchOutputs, Part

MOST_REQUEST_BYTES = 1 << 20
"""A larger request is not looked up: to hash it would hold up the loop for a millisecond."""
OF_ALL = 8
"""An answer that would take more than this part of all there may be is not kept."""
ENTRY_BYTES, TENSOR_BYTES, ELEMENT_BYTES = 500, 300, 80
"""What an answer takes beside its tensors, each tensor of its model beside its data, and an element of strings beside its
bytes; measured."""

Signature = tuple[tuple[str, str], ...]
Question = tuple[str, Signature, tuple[int, ...], bytes]


class Kept(NamedTuple):
    """An answer: arrays of its own by position of the output, when it was given, and what it takes."""

    arrays: dict[int, np.ndarray]
    at: float
    nbytes: int


class StaleAnswers:
    """Those of all skills; who was not asked for longest goes first. Lives on the loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The mutable state, the least recently used first.
        self._kept: dict[Question, Kept] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, name: str, spec: ModelSpec, request: InferRequest, part: Part, now: float) -> None:
        """Remember what `name`, a version of a skill, answers now; the arrays are copied."""
        if request.nbytes > MOST_REQUEST_BYTES:
            return
        positions = request.wanted.outputs
        taken = ENTRY_BYTES + TENSOR_BYTES * (len(spec.inputs) + len(spec.outputs))
        nbytes = taken + sum(part.outputs.elements(at, part) for at in positions)
        if nbytes > self._max_bytes // OF_ALL:
            return  # an element has at least one byte
        arrays = {at: part.outputs.array(at, part).copy() for at in positions}
        nbytes = taken + sum(map(size_of, arrays.values()))
        if nbytes > self._max_bytes // OF_ALL:
            return
        question = asked(name, spec, request)
        self._forget(question)
        while self.nbytes + nbytes > self._max_bytes:
            self._forget(next(iter(self._kept)))
        self._kept[question] = Kept(arrays, now, nbytes)
        self.nbytes += nbytes

    def find(
        self, name: str, spec: ModelSpec, request: InferRequest, max_age_s: float, now: float
    ) -> tuple[Part, float] | None:
        """What the skill answered to the same request, and how many seconds ago; None if there is nothing that young."""
        if not self._kept or request.nbytes > MOST_REQUEST_BYTES:
            return None
        question = asked(name, spec, request)
        kept = self._kept.pop(question, None)
        if kept is None:
            return None
        self._kept[question] = kept  # behind all others: used last
        age_s = now - kept.at
        if age_s > max_age_s:
            return None
        source = BatchOutputs(spec.outputs, kept.arrays)
        return Part(source, 0, request.rows, is_whole=True, lengths=None), age_s

    def _forget(self, question: Question) -> None:
        kept = self._kept.pop(question, None)
        if kept is not None:
            self.nbytes -= kept.nbytes


def asked(name: str, spec: ModelSpec, request: InferRequest) -> Question:
    """What makes two requests ask the same."""
    signature = tuple((each.name, each.datatype.value) for each in (*spec.inputs, *spec.outputs))
    return name, signature, request.wanted.outputs, fingerprint(request)


def size_of(array: np.ndarray) -> int:
    """Bytes of an array, its strings included."""
    if array.dtype != object:
        return array.nbytes
    return sum(ELEMENT_BYTES + len(element) for element in array.ravel())
