"""Laying a batch's inputs into the arena, and giving each request its part of the outputs.

A batch is laid out when it is sent, not when its requests arrive: neighbours in the batch are then neighbours in
memory, whatever order they came in, and the worker never copies (docs/decisions/0003).
"""

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from headrace import strings
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError, InferenceFailed, InvalidItem, InvalidOutput
from headrace.execution.arena import Region, aligned
from headrace.execution.wire import Placed, RowError
from headrace.messages import NUMPY_TYPES, Datatype, ModelSpec, TensorSpec


def place_inputs(spec: ModelSpec, tickets: list[Ticket], rows: int, region: Region) -> tuple[Placed, ...]:
    """Write the tickets' tensors, of so many rows in all, into the region, joined along each input's batch axis."""
    placed, offset = [], 0
    absent = tickets[0].request.absent
    for index, tensor in enumerate(spec.inputs):
        if index in absent:
            continue  # who leaves an input out travels alone
        if len(tickets) == 1 or tensor.batch_axis is None:
            where = place_as_is(region, index, offset, tickets[0])
        elif tensor.is_padded or tensor.batch_axis != 0:
            where = place_array(region, index, offset, joined_array(tensor, index, tickets))
        else:
            where = place_rows(region, index, offset, tickets, rows)
        placed.append(where)
        offset = aligned(offset + where.nbytes)
    return tuple(placed)


def place_as_is(region: Region, index: int, offset: int, ticket: Ticket) -> Placed:
    data, shape = ticket.request.tensors[index], ticket.request.shapes[index]
    nbytes = len(data)
    region.reserve(offset + nbytes)
    region.view[offset : offset + nbytes] = data
    return Placed(index, offset, nbytes, shape)


def place_rows(region: Region, index: int, offset: int, tickets: list[Ticket], rows: int) -> Placed:
    """Row-major tensors joined along axis 0 are their bytes one after the other (BYTES tensors too)."""
    parts = [ticket.request.tensors[index] for ticket in tickets]
    nbytes = sum(map(len, parts))
    region.reserve(offset + nbytes)
    region.write(offset, parts, nbytes)
    return Placed(index, offset, nbytes, (rows, *tickets[0].request.shapes[index][1:]))


def place_array(region: Region, index: int, offset: int, array: np.ndarray) -> Placed:
    data = strings.join(array) if array.dtype == object else array.tobytes()
    region.reserve(offset + len(data))
    region.view[offset : offset + len(data)] = data
    return Placed(index, offset, len(data), array.shape)


def joined_array(spec: TensorSpec, index: int, tickets: list[Ticket]) -> np.ndarray:
    """The tickets' tensors along any batch axis, shorter ones filled up to the longest."""
    axis = spec.batch_axis
    assert axis is not None, "only tensors with a batch axis are joined"
    arrays = [as_array(spec, ticket, index) for ticket in tickets]
    if not spec.is_padded:
        return np.concatenate(arrays, axis)
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    shape[axis] = sum(array.shape[axis] for array in arrays)
    joined = np.full(shape, spec.pad_value, arrays[0].dtype)
    at = 0
    for array in arrays:
        where = [slice(0, size) for size in array.shape]
        where[axis] = slice(at, at + array.shape[axis])
        joined[tuple(where)] = array
        at += array.shape[axis]
    return joined


def as_array(spec: TensorSpec, ticket: Ticket, index: int) -> np.ndarray:
    data, shape = ticket.request.tensors[index], ticket.request.shapes[index]
    if spec.datatype is Datatype.BYTES:
        return strings.split(memoryview(data), shape)
    return np.frombuffer(data, NUMPY_TYPES[spec.datatype]).reshape(shape)


def read_outputs(spec: ModelSpec, placed: tuple[Placed, ...], region: Region) -> dict[int, np.ndarray]:
    """Output arrays by position; views of the region, valid until the slot is used again."""
    arrays = {}
    for each in placed:
        datatype = spec.outputs[each.index].datatype
        if datatype is Datatype.BYTES:
            data = region.view[each.offset : each.offset + each.nbytes]
            arrays[each.index] = strings.split(data, each.shape)
            continue
        dtype = NUMPY_TYPES[datatype]
        count = each.nbytes // dtype.itemsize
        arrays[each.index] = region.array(dtype, each.shape, each.offset, count)
    return arrays


def has_rows(spec: ModelSpec, arrays: dict[int, np.ndarray], rows: int) -> bool:
    """Whether every output has as many rows as the batch: else nobody can tell whose they are."""
    for index, array in arrays.items():
        axis = spec.outputs[index].batch_axis
        if axis is not None and array.shape[axis] != rows:
            return False
    return True


def failures(tickets: list[Ticket], errors: tuple[RowError, ...]) -> dict[Ticket, HeadraceError]:
    """Whose rows failed, and the error each is answered with: of several, the first.

    Raises:
        ValueError: a row that nobody sent.
    """
    if len(tickets) == 1:
        return {tickets[0]: row_failure(errors[0], 0, tickets[0].request.rows)} if errors else {}
    found: dict[Ticket, HeadraceError] = {}
    stops = list(accumulate(ticket.request.rows for ticket in tickets))
    for error in errors:
        if not 0 <= error.row < stops[-1]:
            raise ValueError(f"row {error.row} is said to have failed, and the run had {stops[-1]}")
        at = bisect_right(stops, error.row)
        rows = tickets[at].request.rows
        found.setdefault(tickets[at], row_failure(error, stops[at] - rows, rows))
    return found


def row_failure(error: RowError, start: int, rows: int) -> HeadraceError:
    """What a request of so many rows from `start` hears of a row that failed: it counts its own rows."""
    row = error.row - start
    kind: type[HeadraceError] = InvalidOutput if error.is_output else InferenceFailed
    if error.is_input:
        kind = InvalidItem
    return kind(f"row {row}: {error.reason}" if rows > 1 or row else error.reason)
