"""From what a person types to the tensor a model takes."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headrace import strings
from headrace.errors import InvalidRequest
from headrace.messages import NUMPY_TYPES, Datatype, Shape, element_count

KINDS = {"b": "true and false", "i": "integers", "u": "integers", "f": "floats"}
"""What numpy's kinds of dtype are called in errors."""


class Tensor(NamedTuple):
    """An input or output in a model's metadata; -1 in the shape where any size may come."""

    name: str
    datatype: Datatype
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {shown(self.shape)}"


def shown(shape: Shape) -> str:
    return f"[{', '.join('?' if size < 0 else str(size) for size in shape)}]"


def read_value(text: str, tensor: Tensor, *, is_batched: bool) -> np.ndarray:
    """The array of a JSON literal or @FILE, in the dtype of the tensor's bytes (messages.NUMPY_TYPES; BYTES as objects).

    Args:
        text: what was typed.
        tensor: what the model takes.
        is_batched: whether the first axis is known to be the batch.

    Raises:
        ValueError: it cannot be read, or is not what the model takes.
    """
    if not text.startswith("@"):
        array = typed(parsed(text, tensor.datatype), tensor.datatype)
        return fitted(array, tensor.shape, is_batched=is_batched)
    path = Path(text[1:])
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    match path.suffix:
        case ".npy":
            array = typed(loaded(content), tensor.datatype)
        case ".json":
            array = typed(parsed(content.decode(), tensor.datatype), tensor.datatype)
        case _:
            return from_bytes(content, tensor)
    return fitted(array, tensor.shape, is_batched=is_batched)


def loaded(content: bytes) -> np.ndarray:
    try:
        array = np.load(BytesIO(content), allow_pickle=False)
    except EOFError as exc:
        raise ValueError("the file is empty") from exc
    if not isinstance(array, np.ndarray):
        raise ValueError("the file is an archive of arrays: give a .npy file")  # noqa: TRY004 - of the content
    return array


def parsed(text: str, datatype: Datatype) -> np.ndarray:
    """JSON, except that text for a BYTES tensor may come without its quotes."""
    is_text = datatype is Datatype.BYTES
    try:
        value: Any = json.loads(text)
    except ValueError as exc:
        if not is_text:
            raise ValueError(f"it is neither JSON, as in [[1, 2]], nor @FILE: {exc}") from exc
        value = text
    if is_text and not isinstance(value, str | list):
        value = text
    array = np.array(value, object)
    if any(isinstance(each, list) for each in array.flat):
        raise ValueError("its lists are not all of one length")
    return array if is_text else numbers(array)


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
    """The same elements in the tensor's dtype; nothing is rounded but floats, and nothing wraps around."""
    if datatype is Datatype.BYTES:
        return of_bytes(array)
    kind, dtype = array.dtype.kind, NUMPY_TYPES[datatype]
    if datatype is Datatype.BF16:
        return array if array.dtype == dtype else bfloat16(typed(array, Datatype.FP32))
    wanted = "biu" if dtype.kind == "b" else "iuf" if dtype.kind == "f" else "iu"
    if array.size and kind not in wanted:
        raise ValueError(
            f"it has {KINDS.get(kind, 'something other than numbers')}, and the model takes {datatype}"
        )
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


def from_bytes(content: bytes, tensor: Tensor) -> np.ndarray:
    """A file's bytes: one BYTES element, or elements one after the other, if the shape leaves only one size open."""
    if tensor.datatype is Datatype.BYTES:
        array = np.empty(1, object)
        array[0] = content
        return array.reshape([1] * len(tensor.shape))
    dtype, unknown = NUMPY_TYPES[tensor.datatype], tensor.shape.count(-1)
    if unknown > 1:
        raise ValueError(f"bytes do not say which shape they have of {shown(tensor.shape)}: give a .npy file")
    row = element_count(tuple(size for size in tensor.shape if size >= 0)) * dtype.itemsize
    if not row or len(content) % row or (not unknown and len(content) != row):
        rule = "a multiple of " if unknown else ""
        raise ValueError(f"{tensor} takes {rule}{row} bytes, and the file has {len(content)}")
    return np.frombuffer(content, dtype).reshape(tensor.shape)


def fitted(array: np.ndarray, shape: Shape, *, is_batched: bool) -> np.ndarray:
    """The array as it is, or with a missing axis of one added where only one place for it is possible."""
    if fits(array.shape, shape):
        return array
    places = [
        axis
        for axis, size in enumerate(shape)
        if size < 0 and fits((*array.shape[:axis], 1, *array.shape[axis:]), shape)
    ]
    if is_batched:
        places = [axis for axis in places if axis == 0]
    if len(places) != 1:
        raise ValueError(f"its shape is {shown(array.shape)}, and the model takes {shown(shape)}")
    return np.expand_dims(array, places[0])


def fits(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        size == wanted or wanted < 0 for size, wanted in zip(shape, expected, strict=True)
    )


def to_bytes(array: np.ndarray) -> bytes:
    """The tensor as the protocol's binary form has it."""
    return strings.join(array) if array.dtype == object else array.tobytes()


def from_wire(content: bytes, datatype: Datatype, shape: Shape) -> np.ndarray:
    """The array of a binary tensor; bfloat16 as float32.

    Raises:
        ValueError: there are not as many bytes as the shape needs.
    """
    if datatype is Datatype.BYTES:
        try:
            return strings.split(content, shape)
        except InvalidRequest as exc:
            raise ValueError(str(exc)) from exc
    array = np.frombuffer(content, NUMPY_TYPES[datatype]).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if datatype is Datatype.BF16 else array
