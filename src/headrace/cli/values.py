"""From what a person types to the tensor a model takes."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headrace import strings
from headrace.errors import InvalidRequest
from headrace.messages import NUMPY_TYPES, Datatype, Shape, element_count
from headrace.protocol.arrays import array_of, typed


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
        array = parsed(text, tensor.datatype)
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
            array = parsed(content.decode(), tensor.datatype)
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
    return array_of(value, datatype)


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
