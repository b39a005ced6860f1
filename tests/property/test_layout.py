"""Laying a batch out and giving each request its part are inverse, whatever the rows, axes and paddings."""

import numpy as np
from fakes import model, tensor
from hypothesis import given
from hypothesis import strategies as st

from headrace import strings
from headrace.batching.assemble import place_inputs, read_outputs
from headrace.batching.ticket import Ticket
from headrace.execution.arena import Region
from headrace.messages import NUMPY_TYPES, Datatype, Group, InferRequest, Wanted
from headrace.parts import BatchOutputs, Part

DATATYPES = [Datatype.FP32, Datatype.INT64, Datatype.UINT8, Datatype.BOOL, Datatype.FP16, Datatype.BYTES]


@st.composite
def batches(draw):
    """A tensor's datatype, batch axis and padded axis (or none), and the arrays of the requests of one batch."""
    datatype = draw(st.sampled_from(DATATYPES))
    rank = draw(st.integers(1, 3))
    axis = draw(st.integers(0, rank - 1))
    free = [at for at in range(rank) if at != axis]
    padded = draw(st.none() | st.sampled_from(free)) if free and datatype is not Datatype.BYTES else None
    row = draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank))
    made = []
    for number in range(draw(st.integers(1, 5))):
        shape = [*row]
        shape[axis] = draw(st.integers(1, 4))
        if padded is not None:
            shape[padded] = draw(st.integers(0, 4))
        made.append(array_of(datatype, tuple(shape), number))
    return datatype, axis, padded, made


def array_of(datatype, shape, seed):
    rng = np.random.default_rng(seed)
    if datatype is Datatype.BYTES:
        array = np.empty(int(np.prod(shape)), object)
        array[:] = [rng.bytes(rng.integers(0, 4)) for _ in array]
        return array.reshape(shape)
    return rng.integers(1, 2 if datatype is Datatype.BOOL else 100, shape).astype(NUMPY_TYPES[datatype])


def ticket_of(array, axis, padded):
    data = strings.join(array) if array.dtype == object else array.tobytes()
    lengths = None if padded is None else {"length": array.shape[padded]}
    request = InferRequest(
        "", (array.shape,), (data,), array.shape[axis], Group(1), Wanted((0,), (True,)), len(data), lengths
    )
    return Ticket(request, None, 0.0, 1.0)


def spec_of(datatype, axis, padded, rank):
    lengths = tuple("length" if at == padded else None for at in range(rank)) if padded is not None else ()
    both = [
        tensor(name, datatype, (-1,) * rank, batch_axis=axis, lengths=lengths, pad_value=0) for name in "xy"
    ]
    return model(both[0], outputs=[both[1]])


@given(batches())
def test_a_model_that_returns_its_input_returns_each_request_its_own(batch):
    datatype, axis, padded, made = batch
    spec = spec_of(datatype, axis, padded, made[0].ndim)
    tickets = [ticket_of(array, axis, padded) for array in made]
    region = Region.create()
    rows = sum(ticket.request.rows for ticket in tickets)
    placed = place_inputs(spec, tickets, rows, region)
    assert placed[0].shape[axis] == rows
    outputs = BatchOutputs(spec.outputs, read_outputs(spec, placed, region))
    start = 0
    for ticket, array in zip(tickets, made, strict=True):
        stop = start + ticket.request.rows
        mine = Part(outputs, start, stop, len(tickets) == 1, ticket.request.lengths)
        check(outputs, mine, array)
        start = stop
    region.close()


def check(outputs, mine, array):
    """As an array, as JSON's values and as bytes."""
    np.testing.assert_array_equal(outputs.array(0, mine), array)
    shape, values = outputs.values(0, mine)
    assert (tuple(shape), values) == (array.shape, array.reshape(-1).tolist())
    shape, data = outputs.binary(0, mine)
    expected = strings.join(array) if array.dtype == object else array.tobytes()
    assert (tuple(shape), bytes(data)) == (array.shape, expected)


@given(batches())
def test_what_is_no_ones_row_is_padding(batch):
    datatype, axis, padded, made = batch
    if padded is None:
        return
    spec = spec_of(datatype, axis, padded, made[0].ndim)
    region = Region.create()
    rows = sum(array.shape[axis] for array in made)
    (placed,) = place_inputs(spec, [ticket_of(array, axis, padded) for array in made], rows, region)
    (joined,) = read_outputs(spec, (placed,), region).values()
    assert joined.shape[padded] == max(array.shape[padded] for array in made)
    assert np.count_nonzero(joined) == sum(array.size for array in made)
    region.close()
