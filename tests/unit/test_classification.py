import json

import numpy as np
import pytest
from fakes import model, tensor
from hypothesis import given
from hypothesis import strategies as st

from headrace import strings
from headrace.messages import Datatype, Group, InferRequest, Wanted
from headrace.parts import BatchOutputs, Part
from headrace.protocol.classification import classify, is_much
from headrace.protocol.response import ResponseEncoder
from headrace.protocol.transcode import TO_JSON, perform, result, task

LABELS = ("cat", "", "dog")
SPEC = model(outputs=[tensor("y", shape=(-1, 3)), tensor("z", shape=(-1, 3))])
ROWS = np.float32([[0.5, 2, 1], [-1, -3, -2]])


def texts_of(values, count, labels=(), dtype="f4", *, by_row=True):
    return classify(np.array(values, dtype), count, labels, by_row=by_row)


@pytest.mark.parametrize(
    ("values", "count", "dtype", "texts"),
    [
        ([[3.3, 0.1]], 1, "f4", ["3.300000:0"]),
        ([[1e-9, -0.0]], 2, "f8", ["0.000000:0", "-0.000000:1"]),
        ([[1e20, 123456.789]], 2, "f8", ["100000000000000000000.000000:0", "123456.789000:1"]),
        ([[0, 255, 7]], 2, "u1", ["255:1", "7:2"]),
        ([[-128, 127, 0]], 9, "i1", ["127:1", "0:2", "-128:0"]),
        ([[1 << 63, (1 << 64) - 1]], 2, "u8", ["18446744073709551615:1", "9223372036854775808:0"]),
        ([[5, 5, 5]], 2, "i4", ["5:0", "5:1"]),
        ([[float("nan"), float("-inf"), float("inf")]], 3, "f4", ["inf:2", "nan:0", "-inf:1"]),
    ],
)
def test_values_are_written_as_triton_writes_them_greatest_first(values, count, dtype, texts):
    assert texts_of(values, count, dtype=dtype)[1] == texts


def test_each_row_is_classified_by_itself():
    assert classify(ROWS, 2, (), by_row=True) == (
        (2, 2),
        ["2.000000:1", "1.000000:2", "-1.000000:0", "-2.000000:2"],
    )
    assert classify(ROWS, 2, (), by_row=False) == ((2,), ["2.000000:1", "1.000000:2"])


def test_axes_behind_the_rows_are_counted_through():
    assert texts_of([[[1, 2], [9, 4]]], 1) == ((1, 1), ["9.000000:2"])


def test_a_label_follows_where_there_is_one():
    assert classify(ROWS[:1], 3, LABELS, by_row=True)[1] == ["2.000000:1", "1.000000:2:dog", "0.500000:0:cat"]
    assert texts_of([[1, 2]], 2, ("only",))[1] == ["2.000000:1", "1.000000:0:only"]


def test_nothing_has_no_classes():
    assert classify(np.zeros((0, 4), "f4"), 2, (), by_row=True) == ((0, 2), [])
    assert classify(np.zeros((2, 0), "f4"), 2, (), by_row=True) == ((2, 0), [])


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=8, max_size=8), min_size=1, max_size=3), st.integers(1, 9)
)
def test_the_first_of_equal_ones_comes_first(rows, count):
    best = [sorted(range(8), key=lambda at, row=row: (-row[at], at))[:count] for row in rows]
    expected = [f"{row[at]}:{at}" for row, places in zip(rows, best, strict=True) for at in places]
    for dtype in ("i4", "u2"):
        assert texts_of(rows, count, dtype=dtype)[1] == expected


def answer(binary, classes, *, large=False, row=None):
    """The answer's outputs by name, as JSON or as strings, whether the loop or the transcoder ranks."""
    request = InferRequest("", (), (), 2, Group(1), Wanted((0, 1), binary, classes), 0)
    outputs = BatchOutputs(SPEC.outputs, {0: ROWS, 1: ROWS})
    part = Part(outputs, 0 if row is None else row, 2 if row is None else row + 1, row is None, None)
    encoder = ResponseEncoder(SPEC, {"y": LABELS})
    content, length = encoder.encode(request, part, mark_json=large)
    if large:
        asked = task(TO_JSON, length, content)
        content, length = result(perform(bytes(asked.tensors[0])))
    return content, length or None


@pytest.mark.parametrize("row", [None, 0, 1])
@pytest.mark.parametrize("binary", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("classes", [(2, 0), (9, 1), (1, 2)])
def test_a_worker_writes_classes_as_the_loop_does(binary, classes, row):
    here, there = (answer(binary, classes, large=large, row=row) for large in (False, True))
    assert here[0][here[1] or 0 :] == there[0][there[1] or 0 :]
    assert json.loads(here[0][: here[1]]) == json.loads(there[0][: there[1]])


def test_classes_are_an_output_of_strings():
    content, length = answer((False, False), (1, 0))
    outputs = json.loads(content)["outputs"]
    assert length is None
    assert outputs[0] == {
        "name": "y",
        "datatype": "BYTES",
        "shape": [2, 1],
        "data": ["2.000000:1", "-1.000000:0:cat"],
    }
    assert outputs[1]["data"] == ROWS.ravel().tolist()


def test_classes_in_binary_are_a_tensor_of_strings():
    content, length = answer((True, False), (1, 0))
    described = json.loads(content[:length])["outputs"][0]
    assert described["parameters"] == {"binary_data_size": len(content) - length}
    assert strings.split(content[length:], (2,)).tolist() == [b"2.000000:1", b"-1.000000:0:cat"]


def test_much_to_rank_or_to_write_is_for_a_worker():
    assert not is_much(1000, 1, 5)
    assert is_much(100_000, 1, 1)
    assert is_much(1000, 1, 1000)


def test_a_model_without_rows_is_classified_as_a_whole():
    spec = model(outputs=[tensor("y", Datatype.INT32, (4,), batch_axis=None)], max_batch_size=0)
    request = InferRequest("", (), (), 1, Group(1), Wanted((0,), (False,), (2,)), 0)
    part = Part(BatchOutputs(spec.outputs, {0: np.int32([3, 9, 1, 4])}), 0, 1, True, None)
    output = json.loads(ResponseEncoder(spec).encode(request, part)[0])["outputs"][0]
    assert (output["shape"], output["data"]) == ([2], ["9:1", "4:3"])
