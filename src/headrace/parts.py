"""What a request gets back: its part of a batch's outputs, converted at most once for the whole batch."""

import msgspec
import numpy as np

from headrace import strings
from headrace.messages import Shape, TensorSpec


class Part(msgspec.Struct, frozen=True, gc=False):
    """One request's rows in a batch's outputs, valid only while the receiver is being called.

    Attributes:
        start, stop: its rows.
        is_whole: it travelled alone, so the outputs are its own as they are.
        lengths: what its rows are cropped to, where they were padded.
    """

    outputs: "BatchOutputs"
    start: int
    stop: int
    is_whole: bool
    lengths: dict[str, int] | None


class BatchOutputs:
    """A batch's outputs by position in ModelSpec.outputs, converted at most once for the whole batch."""

    def __init__(self, specs: tuple[TensorSpec, ...], arrays: dict[int, np.ndarray]) -> None:
        """Wrap arrays (shapes with the batch axis; BYTES as 1-d objects carrying their shape)."""
        self._specs = specs
        self._arrays = arrays
        # Filled on first use, by output position.
        self._rows: dict[int, list[list[object]]] = {}
        self._flat: dict[int, tuple[memoryview, int, Shape]] = {}
        self._finite: dict[int, bool] = {}
        self.most_elements = sum(array.size for array in arrays.values())

    def is_finite(self, index: int) -> bool:
        """Whether no element of the batch's output is NaN or infinite."""
        if (known := self._finite.get(index)) is None:
            array = self._arrays[index]
            known = array.dtype.kind != "f" or bool(np.logical_and.reduce(np.isfinite(array), axis=None))
            self._finite[index] = known
        return known

    def elements(self, index: int, part: "Part") -> int:
        """Elements of the request's rows of an output, before cropping."""
        array, axis = self._arrays[index], self._specs[index].batch_axis
        if part.is_whole or axis is None or not array.shape[axis]:
            return array.size
        rows: int = array.shape[axis]
        return array.size // rows * (part.stop - part.start)

    def array(self, index: int, part: Part) -> np.ndarray:
        """The request's rows of an output, cropped to its own lengths; a view where that is contiguous."""
        array, spec = self._arrays[index], self._specs[index]
        axis = spec.batch_axis
        if part.is_whole or (axis is None and not part.lengths):
            return array
        cut = [slice(None)] * array.ndim
        if axis is not None:
            cut[axis] = slice(part.start, part.stop)
        if part.lengths:
            for position, name in enumerate(spec.lengths):
                if name is not None:
                    cut[position] = slice(0, part.lengths[name])
        return np.ascontiguousarray(array[tuple(cut)])

    def binary(self, index: int, part: Part) -> tuple[Shape, bytes | memoryview]:
        """The request's rows as a shape and tensor bytes; a view of the region where that is possible."""
        array = self._arrays[index]
        if array.dtype == object:
            own = self.array(index, part)
            return own.shape, strings.join(own)
        if part.is_whole or self._specs[index].batch_axis != 0 or part.lengths:
            own = self.array(index, part)
            return own.shape, own.reshape(-1).view(np.uint8).data
        if (flat := self._flat.get(index)) is None:
            data = array.reshape(-1).view(np.uint8).data
            flat = self._flat[index] = (data, len(data) // array.shape[0], array.shape[1:])
        data, row_bytes, row_shape = flat
        return (part.stop - part.start, *row_shape), data[part.start * row_bytes : part.stop * row_bytes]

    def values(self, index: int, part: Part) -> tuple[Shape, list[object]]:
        """The request's rows as a shape and a flat list of Python values, for JSON."""
        array, spec = self._arrays[index], self._specs[index]
        if part.is_whole or spec.batch_axis != 0 or part.lengths or part.stop - part.start != 1:
            own = self.array(index, part)
            return own.shape, own.reshape(-1).tolist()
        if (rows := self._rows.get(index)) is None:
            rows = array.reshape(array.shape[0], -1).tolist()
            self._rows[index] = rows
        return (1, *array.shape[1:]), rows[part.start]
