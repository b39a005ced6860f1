"""BYTES tensors between their wire form and numpy: each element's uint32 length, then its bytes."""

import struct

import numpy as np

from headrace.errors import InvalidRequest
from headrace.messages import Shape, element_count

LENGTH = struct.Struct("<I")


def split(data: memoryview | bytes, shape: Shape) -> np.ndarray:
    """Wire form → object array of bytes.

    Raises:
        InvalidRequest: the lengths do not add up, or there are not as many elements as the shape says.
    """
    elements, at, end = [], 0, len(data)
    while at < end:
        begin = at + LENGTH.size
        if begin > end or begin + (length := LENGTH.unpack_from(data, at)[0]) > end:
            raise InvalidRequest("incomplete string data: an element's length reaches beyond the tensor")
        at = begin + length
        elements.append(bytes(data[begin:at]))
    if len(elements) != element_count(shape):
        raise InvalidRequest(f"expected {element_count(shape)} string elements, got {len(elements)}")
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def join(array: np.ndarray) -> bytes:
    """Object array of bytes → wire form."""
    return b"".join(LENGTH.pack(len(element)) + element for element in array.ravel())
