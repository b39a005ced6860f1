"""NaN and infinite numbers in outputs, row by row; looked for where a skill declares that they are a failure."""

from collections.abc import Mapping

import numpy as np

from headrace.errors import InvalidOutput
from headrace.messages import Datatype, TensorSpec

FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})
BF16_EXPONENT = 0x7F80
"""Its bits; all of them are set in NaN and in what is infinite, and in nothing else."""


def is_finite(array: np.ndarray, datatype: Datatype) -> np.ndarray:
    """Element by element. What is no float is finite."""
    if datatype is Datatype.BF16:  # numpy has none: its bits are there as they are
        return np.asarray((array & BF16_EXPONENT) != BF16_EXPONENT)
    if datatype not in FLOATS:
        return np.ones(array.shape, bool)
    return np.asarray(np.isfinite(array))


def rows_not_finite(
    specs: list[TensorSpec], arrays: list[np.ndarray], failed: Mapping[int, Exception]
) -> dict[int, Exception]:
    """Row → why, of rows with NaN or an infinite number in any output, and of those that failed before.

    Args:
        specs: of the outputs; a batch axis says where their rows are.
        arrays: the outputs.
        failed: the latter. They may hold anything.

    Raises:
        InvalidOutput: that is so in all rows, or nobody can tell in which.
    """
    found = dict(failed)
    for spec, array in zip(specs, arrays, strict=True):
        if spec.datatype not in FLOATS:
            continue
        finite = is_finite(array, spec.datatype)
        if finite.all():
            continue
        error = InvalidOutput(f"output '{spec.name}' has NaN or an infinite number")
        axis = spec.batch_axis
        if axis is None or axis >= array.ndim:
            raise error
        rows = finite.all(axis=tuple(at for at in range(array.ndim) if at != axis))
        found = {int(row): error for row in np.flatnonzero(~rows)} | found
        if not failed and len(found) == array.shape[axis]:
            raise error
    return found
