"""Golden inputs notice what a fault changes, and not what a model may change itself."""

import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared, ItemErrors
from headrace.errors import InferenceFailed, InvalidRequest
from headrace.execution.finite import rows_not_finite
from headrace.execution.golden import Golden
from headrace.messages import Datatype, TensorSpec

ROW = {"x": np.ones((1, 4), np.float32)}


def backend(function, datatype=Datatype.FP32):
    return Function([Declared("x", Datatype.FP32, ("n", 4))], [Declared("y", datatype, ("n", 4))], function)


def golden(first, datatype=Datatype.FP32):
    return Golden(backend(None, datatype), ROW, {"y": first})


def run(kept, result, datatype=Datatype.FP32):
    def give(_):
        if isinstance(result, Exception):
            raise result
        return {"y": result}

    kept.run(backend(give, datatype))


FLAT = np.ones((1, 4), np.float32)
BROKEN = np.array([[1, np.nan, 1, 1]], np.float32)


def test_its_cost_is_that_of_the_row():
    assert golden(FLAT).cost == 4


@pytest.mark.parametrize("result", [FLAT, 7 * FLAT])
def test_other_values_are_no_fault(result):
    run(golden(FLAT), result)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (BROKEN, "golden inputs: output 'y' has NaN or an infinite number, and had none"),
        (np.ones((1, 5), np.float32), r"golden inputs: output 'y' has shape \[1, 5\], and had \[1, 4\]"),
        (FLAT.astype(np.float64), "golden inputs: output 'y' is of float64, and was of float32"),
        (InferenceFailed("out of memory"), "golden inputs: out of memory"),
        (InvalidRequest("no such shape"), "golden inputs: no such shape"),
        (ItemErrors([], {0: InferenceFailed("the row failed")}), "golden inputs: the row failed"),
        (RuntimeError("boom"), "golden inputs: RuntimeError: boom"),
    ],
)
def test_what_a_fault_changes_is_a_failure(result, reason):
    with pytest.raises(InferenceFailed, match=f"^{reason}"):
        run(golden(FLAT), result)


def test_what_was_not_finite_when_the_model_was_loaded_need_not_be_finite_now():
    run(golden(BROKEN), BROKEN)
    with pytest.raises(InferenceFailed):
        run(golden(BROKEN), np.array([[np.inf, 1, 1, 1]], np.float32))


def drawn(kept, *results):
    """The golden run of a model that gives these, one after the other."""
    given = iter(results)
    kept.run(backend(lambda _: {"y": next(given)}))


def of_width(width):
    return np.ones((1, width), np.float32)


def test_a_shape_that_is_another_one_each_time_is_no_fault_from_then_on():
    kept = golden(of_width(4))
    drawn(kept, of_width(7), of_width(5))
    drawn(kept, of_width(9))


def test_a_shape_that_is_another_one_and_stays_so_is_a_fault():
    with pytest.raises(InferenceFailed, match=r"has shape \[1, 7\]"):
        drawn(golden(of_width(4)), of_width(7), of_width(7))


ELSEWHERE = np.array([[1, 1, np.nan, 1]], np.float32)


def test_what_is_not_finite_at_another_place_each_time_is_no_fault():
    drawn(golden(BROKEN), ELSEWHERE, BROKEN)


def test_nan_that_comes_and_goes_where_all_was_finite_is_a_fault():
    with pytest.raises(InferenceFailed, match="has NaN"):
        drawn(golden(FLAT), BROKEN, FLAT)


HALF_NAN = np.full((1, 4), 0x7FC0, np.uint16)
HALF_ONE = np.full((1, 4), 0x3F80, np.uint16)


def test_bf16_is_looked_at_by_its_bits():
    run(golden(HALF_ONE, Datatype.BF16), HALF_ONE, Datatype.BF16)
    with pytest.raises(InferenceFailed):
        run(golden(HALF_ONE, Datatype.BF16), HALF_NAN, Datatype.BF16)


def spec(datatype=Datatype.FP32, axis=0):
    return TensorSpec("y", datatype, (-1, 2), batch_axis=axis)


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        (Datatype.FP16, np.array([[1, 2], [np.nan, 2], [3, 4]], np.float16)),
        (Datatype.FP32, np.array([[1, 2], [1, -np.inf], [3, 4]], np.float32)),
        (Datatype.FP64, np.array([[1, 2], [np.inf, np.nan], [3, 4]], np.float64)),
        (Datatype.BF16, np.array([[0x3F80, 0], [0xFF80, 0], [0x7F7F, 0]], np.uint16)),
    ],
)
def test_rows_with_what_is_not_finite_are_found(datatype, array):
    found = rows_not_finite([spec(datatype)], [array], {})
    assert {row: str(why) for row, why in found.items()} == {1: "output 'y' has NaN or an infinite number"}
    turned = rows_not_finite([spec(datatype, axis=1)], [array.T.copy()], {})
    assert list(turned) == [1]


def test_rows_that_had_failed_before_keep_their_reason():
    before = {0: InferenceFailed("of its own")}
    array = np.array([[np.nan, 1], [np.nan, 1]], np.float32)
    found = rows_not_finite([spec()], [array], before)
    assert found[0] is before[0]
    assert sorted(found) == [0, 1]


@pytest.mark.parametrize("axis", [0, None])
def test_a_run_of_which_nothing_or_nobody_knows_what_is_finite_fails(axis):
    with pytest.raises(InferenceFailed, match="output 'y' has NaN"):
        rows_not_finite([spec(axis=axis)], [np.full((2, 2), np.nan, np.float32)], {})


def test_what_is_no_float_is_finite():
    assert rows_not_finite([spec(Datatype.INT64)], [np.ones((2, 2), np.int64)], {}) == {}
