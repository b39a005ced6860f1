import numpy as np
import pytest
from fakes import tensor

from headrace.messages import Datatype, TensorSpec
from headrace.parts import BatchOutputs, Part


def outputs(spec, array):
    return BatchOutputs((spec,), {0: array})


def part(held, start, stop, *, is_whole=False, lengths=None):
    return Part(held, start, stop, is_whole, lengths)


ROWS = np.arange(12, dtype="<f4").reshape(6, 2)


def test_a_part_is_its_own_rows():
    held = outputs(tensor("y"), ROWS)
    assert held.array(0, part(held, 1, 3)).tolist() == [[2, 3], [4, 5]]


def test_a_part_of_another_axis_is_its_own_columns():
    held = outputs(tensor("y", shape=(2, -1), batch_axis=1), ROWS.T)
    assert held.array(0, part(held, 1, 3)).tolist() == [[2, 4], [3, 5]]


def test_who_travelled_alone_gets_the_outputs_as_they_are():
    spec = TensorSpec("y", Datatype.FP32, (-1,))
    held = outputs(spec, ROWS)
    assert held.array(0, part(held, 0, 1, is_whole=True)) is ROWS


def test_padding_is_cropped_to_the_requests_own_length():
    spec = tensor("y", shape=(-1, -1, 2), lengths=(None, "length", None))
    held = outputs(spec, np.arange(16.0).reshape(2, 4, 2))
    assert held.array(0, part(held, 1, 2, lengths={"length": 3})).tolist() == [[[8, 9], [10, 11], [12, 13]]]


def test_an_output_that_is_no_longer_than_the_input_is_not_cropped():
    held = outputs(tensor("y", lengths=()), ROWS)
    assert held.array(0, part(held, 0, 1, lengths={"length": 1})).tolist() == [[0, 1]]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (2, 3), (1, 4), (0, 6)])
@pytest.mark.parametrize("axis", [0, 1])
def test_values_and_bytes_are_the_arrays(start, stop, axis):
    array = ROWS if axis == 0 else ROWS.T.copy()
    held = outputs(tensor("y", shape=(-1, -1), batch_axis=axis), array)
    mine = part(held, start, stop)
    expected = array.take(range(start, stop), axis)
    assert held.values(0, mine) == (expected.shape, expected.reshape(-1).tolist())
    shape, data = held.binary(0, mine)
    assert (tuple(shape), bytes(data)) == (expected.shape, expected.tobytes())
    assert held.elements(0, mine) == expected.size


def test_strings_keep_their_rows():
    array = np.array([[b"a", b"b"], [b"c", b"\xff"]], object)
    held = outputs(tensor("y", Datatype.BYTES), array)
    assert held.values(0, part(held, 1, 2)) == ((1, 2), [b"c", b"\xff"])
    assert held.binary(0, part(held, 1, 2)) == ((1, 2), b"\1\0\0\0c\1\0\0\0\xff")


@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3)])
def test_rows_of_no_elements_are_still_rows(shape):
    held = outputs(tensor("y", shape=(-1, *shape[1:])), np.zeros(shape, "<f4"))
    mine = part(held, 0, 1)
    assert held.values(0, mine) == ((1, *shape[1:]), [])
    assert [tuple(held.binary(0, mine)[0]), bytes(held.binary(0, mine)[1])] == [(1, *shape[1:]), b""]


def test_a_scalar_is_an_answer_too():
    spec = TensorSpec("y", Datatype.FP32, ())
    held = outputs(spec, np.array(7, "<f4"))
    mine = part(held, 0, 1, is_whole=True)
    assert held.values(0, mine) == ((), [7.0])
    assert bytes(held.binary(0, mine)[1]) == np.float32(7).tobytes()


@pytest.mark.parametrize(
    ("array", "is_finite"),
    [
        (np.float32([1, 2]), True),
        (np.float32([1, np.nan]), False),
        (np.float64([np.inf, 1]), False),
        (np.int64([1]), True),
        (np.array([b"a"], object), True),
        (np.float32([]), True),
    ],
    ids=range(6),
)
def test_an_output_knows_whether_all_of_it_is_finite(array, is_finite):
    assert outputs(tensor("y"), array).is_finite(0) is is_finite
