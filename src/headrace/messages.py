"""The frozen values that pass between the stages: datatypes, specs, requests.

Tensor bytes are always little-endian and row-major; a BYTES tensor is each element's uint32 length followed by its
bytes (the Open Inference Protocol's binary form). One form from the socket to the worker means one copy on the way.
"""

from enum import StrEnum
from math import prod
from typing import NamedTuple

import msgspec
import numpy as np

Shape = tuple[int, ...]

BUCKET_RATIO = 1.25
"""Edges of length buckets grow by this, so that at most a fifth of a padded row is padding."""
SMALLEST_EDGE = 8


class Datatype(StrEnum):
    """Tensor element types by their names in the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"


NUMPY_TYPES: dict[Datatype, np.dtype] = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    # numpy has no bfloat16: its bits travel as uint16 and only the backend gives them their meaning.
    Datatype.BF16: np.dtype("<u2"),
}
"""Datatype → numpy dtype of its bytes; BYTES is missing, since its elements have no fixed size."""


class TensorSpec(msgspec.Struct, frozen=True):
    """What a model declares about one input or output, completed by what was probed.

    Attributes:
        name: as the model calls it.
        datatype: element type.
        shape: with the batch axis; -1 where any size may come.
        batch_axis: the axis along which requests are joined; None if the tensor has none.
        lengths: per axis the name of the length it varies with, where padding is declared; else None.
        pad_value: what fills a shorter row up to the longest of its batch.
        survives_padding: of an output: whether it stays the same when a row is padded.
        is_optional: of an input: whether a request may leave it out.
    """

    name: str
    datatype: Datatype
    shape: Shape
    batch_axis: int | None = None
    lengths: tuple[str | None, ...] = ()
    pad_value: float = 0
    survives_padding: bool = True
    is_optional: bool = False

    @property
    def is_padded(self) -> bool:
        return any(self.lengths)

    @property
    def itemsize(self) -> int | None:
        """Bytes an element, None for BYTES."""
        return None if self.datatype is Datatype.BYTES else NUMPY_TYPES[self.datatype].itemsize


class ModelSpec(msgspec.Struct, frozen=True):
    """What callers and the batcher need to know of a loaded version.

    Attributes:
        max_batch_size: rows one request may bring; 0 where the model has no batch axis.
        joins_requests: whether rows of different requests may share a run (probed, never assumed).
        notes: what was found out at load, in sentences for the operator.
    """

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    joins_requests: bool = False
    notes: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """The outputs a request asks for: positions in ModelSpec.outputs, and which of them in binary.

    Attributes:
        classes: for each of them how many classes are wanted in place of its elements, 0 for none; empty if for no
            output any are.
    """

    outputs: tuple[int, ...]
    binary: tuple[bool, ...]
    classes: tuple[int, ...] = ()


class Group(NamedTuple):
    """Requests with equal groups may share a batch.

    Attributes:
        cost: elements of a row with its padding; what a run's time grows with beside the rows.
        edges: the bucket edge of each padded length; a shorter group can be padded up to a longer one's.
        exact: row shapes of the inputs that vary, padded axes as -1.
        shared: digests of the inputs that have no batch axis, which all of a batch must have alike.
    """

    cost: int
    edges: tuple[int, ...] = ()
    exact: tuple[Shape, ...] = ()
    shared: tuple[bytes, ...] = ()


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A decoded request: tensors in the order of ModelSpec.inputs.

    Attributes:
        shapes: one a tensor, with the batch axis.
        tensors: one bytes-like a tensor.
        rows: how many rows it brings along the batch axis; 1 where there is none.
        group: with whom it may share a batch.
        lengths: its own length by name, where inputs are padded.
        timeout_s: seconds from arrival, when the request names a timeout of its own.
        is_alone: it may not share a batch: it has no rows, or strings too long to be looked through before.
        absent: positions of optional inputs that it leaves out; they have no tensor.
        priority: as the request names it, 1 first; 0 if it does not.
        tenant: as the request names it; empty if it does not.
    """

    id: str
    shapes: tuple[Shape, ...]
    tensors: tuple[bytes | memoryview, ...]
    rows: int
    group: Group
    wanted: Wanted
    nbytes: int
    lengths: dict[str, int] | None = None
    timeout_s: float | None = None
    is_alone: bool = False
    absent: tuple[int, ...] = ()
    priority: int = 0
    tenant: str = ""


def element_count(shape: Shape) -> int:
    """How many elements a tensor of that shape has."""
    return prod(shape)


def bucket_edge(length: int) -> int:
    """The smallest bucket edge that holds the length."""
    edge = SMALLEST_EDGE
    while edge < length:
        edge = max(edge + 1, int(edge * BUCKET_RATIO))
    return edge
