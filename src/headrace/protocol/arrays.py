"""Nested lists, as JSON has them, to arrays in a tensor's dtype: nothing is rounded but floats, and nothing wraps around."""

from typing import Any

import numpy as np

from headrace.messages import NUMPY_TYPES, Datatype

KINDS = {"b": "true and false", "i": "integers", "u": "integers", "f": "floats"}
"""What numpy's kinds of dtype are called in errors."""


def array_of(values: Any, datatype: Datatype) -> np.ndarray:
    """Nested lists, or a single value, in the tensor's dtype (messages.NUMPY_TYPES; BYTES as objects).

    Raises:
        ValueError: they are not all of one length, or hold what the datatype cannot.
    """
    array = np.array(values, object)
    if any(isinstance(each, list) for each in array.flat):
        raise ValueError("its lists are not all of one length")
    return typed(array if datatype is Datatype.BYTES else numbers(array), datatype)


def numbers(array: np.ndarray) -> np.ndarray:
    """Python's numbers in the dtype that holds them all: numpy alone would make floats of large integers."""
    kinds = {type(each) for each in array.flat}
    if not kinds <= {bool, int, float}:
        raise ValueError("it has something other than numbers")
    if kinds == {bool}:
        return array.astype("?")
    if float in kinds:
        return array.astype("f8")
    try:
        return array.astype("i8" if max(array.flat, default=0) < 1 << 63 else "u8")
    except OverflowError as exc:
        raise ValueError("it has integers that fit no datatype") from exc


def typed(array: np.ndarray, datatype: Datatype) -> np.ndarray:
    """The same elements in the tensor's dtype."""
    if datatype is Datatype.BYTES:
        return of_bytes(array)
    kind, dtype = array.dtype.kind, NUMPY_TYPES[datatype]
    if datatype is Datatype.BF16:
        return array if array.dtype == dtype else bfloat16(typed(array, Datatype.FP32))
    wanted = "biu" if dtype.kind == "b" else "iuf" if dtype.kind == "f" else "iu"
    if array.size and kind not in wanted:
        raise ValueError(f"it has {KINDS.get(kind, 'something other than numbers')}, and is to be {datatype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(converted, array):
        raise ValueError(f"it has elements that do not fit {datatype}")
    return converted


def of_bytes(array: np.ndarray) -> np.ndarray:
    elements = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
    if not all(isinstance(each, bytes) for each in elements):
        raise ValueError("it has something other than text, or lists of different lengths")
    converted = np.empty(len(elements), object)
    converted[:] = elements
    return converted.reshape(array.shape)


def bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper half of each float's bits, rounded to even; NaN stays NaN."""
    bits = array.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype("<u2")
