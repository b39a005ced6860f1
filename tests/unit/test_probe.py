import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared
from headrace.errors import InferenceFailed, InvalidRequest, LoadFailed
from headrace.execution.probe import Probe, doubled_axis, is_close, made_up
from headrace.messages import NUMPY_TYPES, Datatype

FP32, INT64 = Datatype.FP32, Datatype.INT64
X = Declared("x", FP32, ("batch", 3))
Y = Declared("y", FP32, ("batch", 3))
IDS, MASK = (Declared(name, INT64, ("batch", "length")) for name in ("ids", "attention_mask"))


def probe(inputs, outputs, function, pads=None):
    backend = Function(inputs, outputs, function)
    return Probe(backend, max_batch_size=8, pads=pads or {})


def spec_of(inputs, outputs, function, pads=None):
    return probe(inputs, outputs, function, pads).spec("m", "1")


def notes_of(spec):
    return " ".join(spec.notes)


# --- which rows may share a run ---------------------------------------------------------------------------------------


def test_independent_rows_are_joined():
    spec = spec_of([X], [Y], lambda a: {"y": a["x"] * 2})
    assert (spec.joins_requests, spec.max_batch_size, spec.notes) == (True, 8, ())
    assert (spec.inputs[0].batch_axis, spec.inputs[0].shape) == (0, (-1, 3))
    assert (spec.outputs[0].batch_axis, spec.outputs[0].shape) == (0, (-1, 3))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda a: {"y": a["x"] - a["x"].mean(0)}, "rows change each other in output 'y'"),
        (lambda a: {"y": np.cumsum(a["x"], 0)}, "changes with the number of rows|rows change each other"),
        (lambda a: {"y": a["x"] / len(a["x"])}, "output 'y' changes with the number of rows"),
        (
            lambda a: {"y": a["x"] + np.arange(len(a["x"]), dtype="f")[:, None]},
            "changes with the number of rows",
        ),
        (lambda a: {"y": a["x"].sum(0, keepdims=True)}, "output 'y' does not grow with the rows"),
        (lambda a: {"y": a["x"][::-1]}, "rows change each other|changes with the number of rows"),
        (lambda a: {"y": np.full_like(a["x"], len(a["x"]))}, "changes with the number of rows"),
    ],
    ids=["mean", "cumulated", "divided", "counted", "summed", "reversed", "number"],
)
def test_rows_that_are_not_independent_travel_alone(function, reason):
    spec = spec_of([X], [Y], function)
    assert (spec.joins_requests, spec.max_batch_size) == (False, 0)
    assert any(each in notes_of(spec) for each in reason.split("|"))
    assert spec.inputs[0].batch_axis is None


def test_one_dependent_output_among_others_is_enough():
    outputs = [Y, Declared("z", FP32, ("batch", 3))]
    spec = spec_of([X], outputs, lambda a: {"y": a["x"], "z": a["x"] - a["x"].max(0)})
    assert not spec.joins_requests


def test_an_output_that_cannot_be_cut_into_rows_keeps_requests_apart():
    spec = spec_of([X], [Y, Declared("n", INT64, ())], lambda a: {"y": a["x"], "n": np.array(1)})
    assert not spec.joins_requests
    assert "output 'n' does not grow with the rows" in notes_of(spec)


def test_two_rows_that_fail_are_not_tried_again():
    def run(arrays):
        if len(arrays["x"]) > 1:
            raise InferenceFailed("one at a time, please")
        return {"y": arrays["x"]}

    spec = spec_of([X], [Y], run)
    assert not spec.joins_requests
    assert "two rows in one run fail (one at a time, please)" in notes_of(spec)


def test_a_fixed_batch_is_served_as_it_is():
    spec = spec_of([Declared("x", FP32, (1, 3))], [Declared("y", FP32, (1, 3))], lambda a: {"y": a["x"]})
    assert (spec.joins_requests, spec.inputs[0].shape, spec.inputs[0].batch_axis) == (False, (1, 3), None)
    assert "no input has a variable first axis" in notes_of(spec)


def test_strings_are_joined_too():
    words = Declared("s", Datatype.BYTES, ("batch",))
    spec = spec_of([words], [words], lambda a: {"s": a["s"]})
    assert spec.joins_requests


@pytest.mark.parametrize("datatype", [each for each in Datatype if each is not Datatype.BYTES])
def test_every_datatype_can_be_made_up(datatype):
    array = made_up(Declared("x", datatype, ("batch", 3)), (2, 3), 1)
    assert (array.dtype, array.shape) == (NUMPY_TYPES[datatype], (2, 3))


# --- which axis is the batch ------------------------------------------------------------------------------------------


def test_an_output_may_have_its_rows_on_another_axis():
    spec = spec_of([X], [Declared("y", FP32, (3, "batch"))], lambda a: {"y": a["x"].T})
    assert (spec.joins_requests, spec.outputs[0].batch_axis, spec.outputs[0].shape) == (True, 1, (3, -1))


def test_an_input_may_have_its_rows_on_another_axis_by_the_axis_name():
    state = Declared("state", FP32, (2, "batch", 4))
    spec = spec_of(
        [X, state],
        [Y, Declared("next", FP32, (2, "batch", 4))],
        lambda a: {"y": a["x"], "next": a["state"] + 1},
    )
    assert [each.batch_axis for each in (*spec.inputs, *spec.outputs)] == [0, 1, 0, 1]


def test_an_input_without_rows_is_the_same_for_all_of_a_batch():
    rate = Declared("rate", INT64, ())
    spec = spec_of([X, rate], [Y], lambda a: {"y": a["x"] * (1 + a["rate"])})
    assert (spec.joins_requests, spec.inputs[1].batch_axis, spec.inputs[1].shape) == (True, None, ())


def test_an_output_declared_without_axes_has_as_many_as_a_run_gives_it():
    spec = spec_of([X], [Declared("y", FP32, None)], lambda a: {"y": a["x"][:, :, None]})
    assert (spec.outputs[0].shape, spec.outputs[0].batch_axis) == ((-1, -1, -1), 0)


@pytest.mark.parametrize(
    ("one", "two", "axis"),
    [
        ((1, 3), (2, 3), 0),
        ((3, 1), (3, 2), 1),
        ((5, 3), (10, 3), 0),
        ((1, 3), (1, 3), None),
        ((1, 3), (3, 3), None),
        ((1, 1), (2, 2), None),
        ((1,), (2, 1), None),
        ((), (), None),
    ],
)
def test_the_batch_axis_is_the_only_one_that_doubles(one, two, axis):
    assert doubled_axis(one, two) == axis


# --- lengths and padding ----------------------------------------------------------------------------------------------


def masked_mean(arrays):
    weights = arrays["attention_mask"]
    means = (arrays["ids"] * weights).sum(1) / weights.sum(1)
    return {"y": means.astype("<f4")[:, None], "each": (arrays["ids"] * weights).astype("<f4")}


MEAN, EACH = Declared("y", FP32, ("batch", 1)), Declared("each", FP32, ("batch", "length"))


def test_a_mask_declares_padding_and_a_run_confirms_it():
    spec = spec_of([IDS, MASK], [MEAN, EACH], masked_mean)
    assert [each.lengths for each in spec.inputs] == [(None, "length"), (None, "length")]
    assert [each.survives_padding for each in spec.outputs] == [True, True]
    assert [each.lengths for each in spec.outputs] == [(None, None), (None, "length")]
    assert "padded along length, and a run confirmed it" in notes_of(spec)


def test_padding_that_changes_every_output_is_not_used():
    spec = spec_of([IDS, MASK], [MEAN], lambda a: {"y": a["ids"].mean(1, keepdims=True).astype("<f4")})
    assert (spec.joins_requests, spec.inputs[0].lengths) == (True, ())
    assert "padding is not used: no output stays the same" in notes_of(spec)


def test_padding_that_changes_one_output_is_used_for_the_others():
    outputs = [MEAN, Declared("raw", FP32, ("batch", 1))]
    spec = spec_of(
        [IDS, MASK],
        outputs,
        lambda a: {"y": masked_mean(a)["y"], "raw": a["ids"].mean(1, keepdims=True).astype("<f4")},
    )
    assert [each.survives_padding for each in spec.outputs] == [True, False]
    assert "output 'raw' changes with padding" in notes_of(spec)


def test_without_a_mask_or_a_declaration_nothing_is_padded():
    spec = spec_of([IDS], [MEAN], lambda a: {"y": a["ids"].max(1, keepdims=True).astype("<f4")})
    assert (spec.joins_requests, spec.inputs[0].lengths) == (True, ())


def test_declared_padding_fills_with_the_declared_value():
    lowest = -5.0
    declared = Declared("x", FP32, ("batch", "length"))
    spec = spec_of(
        [declared], [MEAN], lambda a: {"y": np.maximum(a["x"], lowest).max(1, keepdims=True)}, {"x": lowest}
    )
    assert (spec.inputs[0].lengths, spec.inputs[0].pad_value) == ((None, "length"), lowest)


def test_padding_declared_for_an_input_that_is_none_is_a_mistake_to_hear_of():
    with pytest.raises(LoadFailed, match="padding is declared for tokens, and the inputs are ids"):
        probe([IDS], [MEAN], masked_mean, {"tokens": 0})


# --- models that do not run on made-up inputs -------------------------------------------------------------------------


def test_sizes_are_tried_until_the_model_runs():
    def run(arrays):
        if arrays["x"].shape[1] != 320:
            raise InvalidRequest("frames of 320 only")
        return {"y": arrays["x"]}

    wide = Declared("x", FP32, ("batch", "samples"))
    spec = spec_of([wide], [Declared("y", FP32, wide.axes)], run)
    assert spec.joins_requests


def test_a_model_that_never_runs_is_served_one_request_at_a_time():
    def run(arrays):
        raise InferenceFailed("not for anything made up")

    probed = probe([X], [Y], run)
    spec = probed.spec("m", "1")
    assert (spec.joins_requests, spec.max_batch_size, probed.runs) == (False, 0, False)
    assert "could not be run on made-up inputs (not for anything made up)" in notes_of(spec)
    assert spec.inputs[0].shape == (-1, 3)


def test_a_model_too_slow_to_probe_is_served_one_request_at_a_time_meanwhile():
    spec = probe([X], [Y], lambda a: {"y": a["x"]}).unjoined_spec("m", "1")
    assert (spec.joins_requests, spec.max_batch_size) == (False, 0)
    assert "being found out" in notes_of(spec)


# --- what counts as equal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "expected", "is_equal"),
    [
        (np.float32([1, 100]), np.float32([1.5, 100]), True),  # a hundredth of the largest
        (np.float32([3, 100]), np.float32([1, 100]), False),
        (np.float32([np.nan, 1]), np.float32([np.nan, 1]), True),
        (np.float32([np.nan, 1]), np.float32([1, 1]), False),
        (np.float32([np.inf]), np.float32([np.inf]), True),
        (np.int64([1, 2]), np.int64([1, 2]), True),
        (np.int64([1, 200]), np.int64([2, 200]), False),
        (np.float32([[1]]), np.float32([1]), False),
        (np.array([b"a"], object), np.array([b"a"], object), True),
        (np.zeros(0, "f"), np.zeros(0, "f"), True),
    ],
    ids=range(10),
)
def test_floats_are_equal_up_to_rounding_and_everything_else_exactly(ours, expected, is_equal):
    assert is_close(ours, expected) is is_equal
