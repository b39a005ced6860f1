"""Binary tensors of a request: whether their bytes are as many as their shapes say, and a shape from bytes alone."""

from math import prod

from headrace.errors import InvalidRequest
from headrace.messages import Shape, TensorSpec
from headrace.strings import LENGTH

MOST_STRING_BYTES = 1 << 16
"""Longer BYTES tensors are looked through by the worker, since the loop would be held up; so they travel alone."""


def cut_binary(
    model: str, tensor: TensorSpec, body: bytes, cursor: int, size: int, elements: int
) -> memoryview:
    """An input's data where it lies in the body.

    Raises:
        InvalidRequest: it does not end there, or is not as long as its elements need.
    """
    if cursor + size > len(body):
        missing = cursor + size - len(body)
        raise InvalidRequest(
            f"unexpected size for input '{tensor.name}', expecting {missing} additional bytes for model '{model}'"
        )
    data = memoryview(body)[cursor : cursor + size]
    if tensor.itemsize is None:
        if size <= MOST_STRING_BYTES:
            check_strings(tensor.name, model, data, elements)
    elif elements * tensor.itemsize != size:
        raise InvalidRequest(
            f"unexpected size for input '{tensor.name}': its shape needs {elements * tensor.itemsize} bytes of "
            f"{tensor.datatype}, binary_data_size is {size}"
        )
    return data


def deduce_shape(tensor: TensorSpec, nbytes: int) -> Shape:
    """A raw request's shape: batch 1, and at most one more variable axis."""
    shape = [1 if at == tensor.batch_axis else size for at, size in enumerate(tensor.shape)]
    if tensor.itemsize is None:
        if any(size not in {1, -1} for size in shape):
            raise InvalidRequest(
                f"For BYTE datatype raw input '{tensor.name}', the model must have input shape [1]"
            )
        return (1,) * len(shape)
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"The shape of the raw input '{tensor.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    known = prod(size for size in shape if size != -1) * tensor.itemsize
    return tuple(nbytes // max(1, known) if size == -1 else size for size in shape)


def check_strings(name: str, model: str, data: memoryview, elements: int) -> None:
    """Lengths add up to the data's end, and there are as many elements as the shape says."""
    at = found = 0
    while at < len(data):
        if at + LENGTH.size > len(data):
            raise InvalidRequest(f"incomplete string length indicator for inference input '{name}'")
        at += LENGTH.size + LENGTH.unpack_from(data, at)[0]
        found += 1
    if at != len(data):
        raise InvalidRequest(f"incomplete string data for inference input '{name}'")
    if found != elements:
        raise InvalidRequest(
            f"expected {elements} string elements for inference input '{name}' for model '{model}', got {found}"
        )
