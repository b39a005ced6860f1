import numpy as np
import pytest
from fakes import FP32, model, tensor

from headrace import strings
from headrace.batching.assemble import failures, place_inputs, read_outputs
from headrace.batching.ticket import Ticket
from headrace.errors import InferenceFailed, InvalidItem, RequestTimeout
from headrace.execution.arena import ALIGNMENT, JOIN_BELOW, Region
from headrace.execution.wire import Placed, RowError
from headrace.messages import NUMPY_TYPES, Datatype, Group, InferRequest, TensorSpec, Wanted


@pytest.fixture
def region():
    made = Region.create()
    yield made
    made.close()


def ticket_of(*arrays, rows=1):
    tensors = tuple(strings.join(each) if each.dtype == object else each.tobytes() for each in arrays)
    request = InferRequest(
        "",
        tuple(each.shape for each in arrays),
        tensors,
        rows,
        Group(1),
        Wanted((0,), (False,)),
        sum(map(len, tensors)),
    )
    return Ticket(request, None, 0, 1, RequestTimeout)


def placed_arrays(spec, tickets, region):
    """What a worker would read."""
    arrays = []
    rows = sum(ticket.request.rows for ticket in tickets)
    for where, tensor_spec in zip(place_inputs(spec, tickets, rows, region), spec.inputs, strict=True):
        assert where.offset % ALIGNMENT == 0
        data = bytes(region.view[where.offset : where.offset + where.nbytes])
        if tensor_spec.datatype is Datatype.BYTES:
            arrays.append(strings.split(data, where.shape))
        else:
            arrays.append(np.frombuffer(data, NUMPY_TYPES[tensor_spec.datatype]).reshape(where.shape))
    return arrays


def test_rows_are_joined_one_after_the_other(region):
    tickets = [ticket_of(np.full((rows, 2), rows, FP32), rows=rows) for rows in (1, 3, 2)]
    joined = placed_arrays(model(), tickets, region)[0]
    assert joined[:, 0].tolist() == [1, 3, 3, 3, 2, 2]


def test_large_rows_are_joined_too_and_the_region_grows(region):
    tickets = [ticket_of(np.full((1, JOIN_BELOW), value, FP32)) for value in range(5)]
    joined = placed_arrays(model(tensor("x", shape=(-1, JOIN_BELOW))), tickets, region)[0]
    assert joined.shape == (5, JOIN_BELOW)
    assert (joined == np.arange(5)[:, None]).all()


def test_columns_are_joined_side_by_side(region):
    spec = model(tensor("x", shape=(2, -1), batch_axis=1))
    tickets = [ticket_of(np.array([[value], [-value]], FP32)) for value in (1, 2, 3)]
    assert placed_arrays(spec, tickets, region)[0].tolist() == [[1, 2, 3], [-1, -2, -3]]


def test_inputs_are_placed_one_after_the_other_aligned(region):
    spec = model(tensor("a", Datatype.UINT8, (-1, 3)), tensor("b", Datatype.FP64, (-1,)))
    tickets = [ticket_of(np.full((1, 3), value, "u1"), np.array([value], "<f8")) for value in (1, 2)]
    first, second = placed_arrays(spec, tickets, region)
    assert (first.tolist(), second.tolist()) == ([[1, 1, 1], [2, 2, 2]], [1, 2])


def test_an_input_without_a_batch_axis_is_placed_once(region):
    spec = model(tensor("x"), TensorSpec("rate", Datatype.INT64, ()))
    tickets = [ticket_of(np.zeros((1, 2), FP32), np.array(8000)) for _ in range(3)]
    joined, rate = placed_arrays(spec, tickets, region)
    assert (joined.shape, rate.shape, int(rate)) == ((3, 2), (), 8000)


def test_shorter_rows_are_filled_up_with_the_pad_value(region):
    spec = model(tensor("x", Datatype.INT64, (-1, -1), lengths=(None, "length"), pad_value=9))
    tickets = [ticket_of(np.full((1, size), size)) for size in (2, 3, 1)]
    assert placed_arrays(spec, tickets, region)[0].tolist() == [[2, 2, 9], [3, 3, 3], [1, 9, 9]]


def test_padding_and_another_batch_axis_go_together(region):
    spec = model(tensor("x", Datatype.INT64, (-1, -1), batch_axis=1, lengths=("length", None)))
    tickets = [ticket_of(np.full((size, 1), size)) for size in (2, 1)]
    assert placed_arrays(spec, tickets, region)[0].tolist() == [[2, 1], [2, 0]]


@pytest.mark.parametrize("axis", [0, 1])
def test_strings_are_joined_along_any_axis(region, axis):
    spec = model(tensor("s", Datatype.BYTES, (-1, -1), batch_axis=axis))
    arrays = [np.array([[text]], object) for text in (b"a", b"", b"\xff\0")]
    joined = placed_arrays(spec, [ticket_of(each) for each in arrays], region)[0]
    assert joined.tolist() == np.concatenate(arrays, axis).tolist()


@pytest.mark.parametrize("lengths", [(), (None, "length")])
def test_a_ticket_alone_is_placed_as_it_came(region, lengths):
    spec = model(tensor("x", lengths=lengths, pad_value=9))
    array = np.arange(6, dtype=FP32).reshape(3, 2)
    assert (placed_arrays(spec, [ticket_of(array, rows=3)], region)[0] == array).all()


def test_no_rows_take_no_room(region):
    assert placed_arrays(model(), [ticket_of(np.zeros((0, 2), FP32), rows=0)], region)[0].shape == (0, 2)


def test_outputs_are_views_of_the_region_by_position(region):
    spec = model(outputs=(tensor("y"), tensor("z", Datatype.BYTES, (-1,))))
    region.write(0, [np.float32([[1, 2]]).tobytes()], 8)
    region.write(64, [b"\1\0\0\0a"], 5)
    arrays = read_outputs(spec, (Placed(1, 64, 5, (1,)), Placed(0, 0, 8, (1, 2))), region)
    assert arrays[0].tolist() == [[1, 2]]
    assert arrays[1].tolist() == [b"a"]
    region.write(0, [np.float32([[3, 4]]).tobytes()], 8)
    assert arrays[0].tolist() == [[3, 4]]


def rows_of(count):
    return ticket_of(np.zeros((count, 2), FP32), rows=count)


def test_rows_that_failed_are_found_with_whose_they_are_and_requests_without_rows_are_passed_over():
    one, none, two, last = tickets = [rows_of(each) for each in (1, 0, 2, 1)]
    errors = (
        RowError(0, "a", is_input=True),
        RowError(1, "b", is_input=False),
        RowError(2, "c", is_input=True),
    )
    found = failures(tickets, errors)
    assert {ticket: (type(error), str(error)) for ticket, error in found.items()} == {
        one: (InvalidItem, "a"),
        two: (InferenceFailed, "row 0: b"),
    }
    assert none not in found
    assert last not in found


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_nobody_sent_is_noticed(row):
    with pytest.raises(ValueError, match="the run had 2"):
        failures([rows_of(1), rows_of(1)], (RowError(row, "", is_input=True),))


def test_a_request_that_ran_alone_has_whatever_row_failed():
    only = ticket_of(np.zeros((3, 2), FP32), rows=1)
    found = failures([only], (RowError(2, "c", is_input=True),))
    assert str(found[only]) == "row 2: c"
