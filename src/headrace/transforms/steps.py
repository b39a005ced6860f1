"""Items and tensors as they travel between the gateway and a transform worker: msgpack behind one byte of operation."""

from math import prod
from typing import Any

import msgspec
import numpy as np

from headrace import strings
from headrace.messages import NUMPY_TYPES, Datatype, Shape

BEFORE, AFTER = b"\0", b"\1"
Tensors = dict[str, tuple[Datatype, Shape, bytes]]
"""One row's tensors by name: datatype, shape without the batch axis, tensor bytes."""

_encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(dict[str, Any]).decode
_decode_tensors = msgspec.msgpack.Decoder(Tensors).decode


def encode_before(item: dict[str, Any]) -> bytes:
    """An item as callers sent it: BYTES inputs (text, images, JSON) as bytes, numbers as floats."""
    return BEFORE + _encode(item)


def decode_item(data: bytes) -> dict[str, Any]:
    """The item of `encode_before`, without its operation byte."""
    return _decode_item(data)


def encode_tensors(arrays: dict[str, np.ndarray], datatypes: dict[str, Datatype]) -> bytes:
    """One row's tensors; BYTES are object arrays of bytes."""
    return _encode(
        {
            name: (
                datatypes[name],
                array.shape,
                strings.join(array) if array.dtype == object else np.ascontiguousarray(array).data.cast("B"),
            )
            for name, array in arrays.items()
        }
    )


def decode_tensors(blob: bytes) -> Tensors:
    """One row's tensors by name."""
    return _decode_tensors(blob)


def encode_after(arrays: dict[str, np.ndarray], datatypes: dict[str, Datatype]) -> bytes:
    """One row's outputs of the model, for `after`."""
    return AFTER + encode_tensors(arrays, datatypes)


def as_array(datatype: Datatype, shape: Shape, data: bytes) -> np.ndarray:
    """One tensor as a read-only array; BYTES as objects."""
    if datatype is Datatype.BYTES:
        return strings.split(data, shape)
    return np.frombuffer(data, NUMPY_TYPES[datatype], prod(shape)).reshape(shape)
