"""Records as columns and files as numbers."""

import json
import math

import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared, ItemErrors
from headrace.errors import InvalidItem, LoadFailed
from headrace.execution.probe import Probe
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.kinds import Ends
from headrace.transforms.raw import EndsOf
from headrace.transforms.record import Records
from headrace.transforms.wrapped import wrap

FEATURES = {
    "duration": "number",
    "purpose": ["car", "education", "other"],
    "age": {"number": {"default": 30}},
    "housing": {"categories": ["own", "rent"], "default": "own"},
}
GOOD = {"duration": 12, "purpose": "education", "age": 41.5, "housing": "rent"}


def numbers(record, features=FEATURES):
    content = record if isinstance(record, bytes) else json.dumps(record).encode()
    return Records(features).numbers(content)


def column(*records):
    array = np.empty(len(records), object)
    array[:] = [json.dumps(each).encode() for each in records]
    return {"applicant": array}


def skill(inputs, step):
    seen = []

    def run(arrays):
        seen.append(arrays)
        first = next(iter(arrays.values()))
        return {"y": first.astype("f4").reshape(len(first), -1)[:, :1]}

    model = Function(inputs, [Declared("y", Datatype.FP32, ("rows", 1))], run)
    steps = {"inputs": {"applicant": {"kind": "record", "record": FEATURES, **step}}, "outputs": {}}
    return wrap(model, ModelConfig(steps=steps), {}), seen


def test_features_come_in_the_declared_order():
    assert numbers(dict(reversed(GOOD.items()))) == [12, 1, 41.5, 1]


def test_what_is_missing_or_null_is_the_default():
    assert numbers({"duration": 1, "purpose": "car", "age": None}) == [1, 0, 30, 0]


def test_true_is_not_one():
    features = {"f": [1, True, "1"]}
    assert [numbers({"f": value}, features)[0] for value in (1, True, "1")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"duration": None}, "feature 'duration' is null: it must be a number"),
        ({"purpose": None}, 'feature \'purpose\' is null: it must be one of "car", "education", "other"'),
        ({"duration": "12"}, 'must be a number, and it is "12": leave the quotation marks away'),
        ({"duration": "long"}, 'must be a number, and it is "long"'),
        ({"duration": True}, "must be a number, and it is true"),
        ({"duration": [1]}, r"must be a number, and it is \[1\]"),
        ({"purpose": "cra"}, 'must be one of "car", "education", "other", and it is "cra"'),
        ({"purpose": ["car"]}, "must be one of"),
        ({"purpose": 0}, "must be one of"),
        (
            {"housng": "own"},
            "'housng' is no feature; did you mean 'housing'. The features are duration, purpose",
        ),
    ],
    ids=["null", "null category", "quoted", "word", "flag", "list", "category", "listed", "index", "unknown"],
)
def test_what_a_feature_cannot_be_is_said_with_what_it_can(change, reason):
    with pytest.raises(InvalidItem, match=reason):
        numbers({**GOOD, **change})


def test_a_missing_feature_is_named():
    with pytest.raises(InvalidItem, match="feature 'duration' is missing: it must be a number"):
        numbers({"purpose": "car"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no JSON"),
        (b'{"duration": NaN}', "no JSON"),
        (b"[1]", "a record is a JSON object"),
        (b'{"duration": 1e999, "purpose": "car"}', "finite|no JSON"),
        (b'{"duration": 1' + b"0" * 400 + b', "purpose": "car"}', "finite|no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
    ids=["cut", "nan", "list", "infinite", "huge", "deep"],
)
def test_what_is_no_record_is_refused(content, reason):
    with pytest.raises(InvalidItem, match=reason):
        numbers(content)


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        ("figure", "write number"),
        ([], "needs categories"),
        (["a", "a"], "a category twice"),
        ({"number": {"default": "x"}}, "the default of feature 'f' must be a number"),
        ({"categories": ["a"], "default": "b"}, "the default of feature 'f' must be one of"),
    ],
    ids=["word", "none", "twice", "number", "category"],
)
def test_a_declaration_that_contradicts_itself_is_refused(feature, reason):
    with pytest.raises(LoadFailed, match=reason):
        Records({"f": feature})


def test_records_become_one_vector_a_row():
    wrapped, seen = skill([Declared("x", Datatype.FP32, ("rows", 4))], {})
    wrapped.run(column(GOOD, {**GOOD, "age": 20}), ["y"])
    assert seen[0]["x"].dtype == np.float32
    assert seen[0]["x"].tolist() == [[12, 1, 41.5, 1], [12, 1, 20, 1]]


def one_feature(datatype, feature="number"):
    seen = []

    def run(arrays):
        seen.append(arrays["x"].tolist())
        return {"y": np.zeros((len(arrays["x"]), 1), "f4")}

    model = Function([Declared("x", datatype, ("rows", 1))], [Declared("y", Datatype.FP32, ("rows", 1))], run)
    steps = {"inputs": {"applicant": {"kind": "record", "record": {"a": feature}, "to": "x"}}, "outputs": {}}
    return wrap(model, ModelConfig(steps=steps), {}), seen


@pytest.mark.parametrize(
    ("datatype", "value", "reason"),
    [
        (Datatype.INT64, 1.5, "must be a whole number from -9223372036854775808 to .*, and it is 1.5"),
        (Datatype.INT8, 128, "must be a whole number from -128 to 127, and it is 128"),
        (Datatype.UINT8, -1, "must be a whole number from 0 to 255, and it is -1"),
        (Datatype.INT64, 1e300, "must be a whole number"),
        (Datatype.BOOL, 2, "must be a whole number from 0 to 1, and it is 2"),
        (Datatype.FP16, 70000, "must be a number from -65504 to 65504, and it is 70000"),
        (Datatype.FP32, 1e39, "must be a number from"),
    ],
    ids=str,
)
def test_a_number_that_the_model_would_get_as_another_costs_its_own_row(datatype, value, reason):
    wrapped, seen = one_feature(datatype)
    with pytest.raises(ItemErrors) as caught:
        wrapped.run(column({"a": 1}, {"a": value}, {"a": 0}), ["y"])
    assert list(caught.value.errors) == [1]
    with pytest.raises(InvalidItem, match=reason):
        raise caught.value.errors[1]
    assert seen == [[[1], [0]]]


def test_whole_numbers_arrive_as_they_are_sent():
    wrapped, seen = one_feature(Datatype.INT64)
    wrapped.run(column({"a": 2**53 + 1}, {"a": 3.0}), ["y"])
    assert seen == [[[2**53 + 1], [3]]]


@pytest.mark.parametrize("datatype", [Datatype.INT8, Datatype.BOOL, Datatype.FP16, Datatype.UINT64], ids=str)
def test_made_up_records_fit_the_model(datatype):
    wrapped, seen = one_feature(datatype, {"number": {"default": 1}})
    for seed in range(20):
        wrapped.run(wrapped.examples(seed, 2), ["y"])
    assert len({number for rows in seen for row in rows for number in row}) > 1


def test_categories_and_defaults_that_do_not_fit_the_model_are_refused():
    with pytest.raises(LoadFailed, match="has 129 categories, and the model takes a whole number from -128"):
        one_feature(Datatype.INT8, [str(at) for at in range(129)])
    with pytest.raises(LoadFailed, match=r"the default of feature 'a' must be a whole number .* is 1\.5"):
        one_feature(Datatype.INT32, {"number": {"default": 1.5}})


@pytest.mark.parametrize("dtype", ["i1", "?"])
def test_a_file_is_not_for_a_model_that_cannot_hold_a_byte(dtype):
    with pytest.raises(LoadFailed, match="bytes are numbers up to 255, which do not fit"):
        ends(b"abc", dtype, pad=0)


def test_records_become_a_column_each_where_the_model_has_inputs_of_their_names():
    inputs = [
        Declared("duration", Datatype.INT64, ("rows", 1)),
        Declared("purpose", Datatype.BYTES, ("rows", 1)),
        Declared("age", Datatype.FP32, ("rows",)),
        Declared("housing", Datatype.INT32, ("rows", 1)),
    ]
    wrapped, seen = skill(inputs, {})
    assert [each.name for each in wrapped.inputs] == ["applicant"]
    wrapped.run(column(GOOD), ["y"])
    assert {name: array.tolist() for name, array in seen[0].items()} == {
        "duration": [[12]],
        "purpose": [[b"education"]],
        "age": [41.5],
        "housing": [[1]],
    }


def test_a_record_that_is_wrong_fails_alone():
    wrapped, seen = skill([Declared("x", Datatype.FP32, ("rows", 4))], {})
    with pytest.raises(ItemErrors) as raised:
        wrapped.run(column({}, GOOD), ["y"])
    assert list(raised.value.errors) == [0]
    assert len(seen[0]["x"]) == 1


def test_records_all_wrong_are_not_run():
    wrapped, seen = skill([Declared("x", Datatype.FP32, ("rows", 4))], {})
    with pytest.raises(ItemErrors) as raised:
        wrapped.run(column({}, {}), ["y"])
    assert (list(raised.value.errors), raised.value.outputs, seen) == ([0, 1], [], [])


@pytest.mark.parametrize(
    ("inputs", "step", "reason"),
    [
        ([Declared("x", Datatype.FP32, ("rows", 5))], {}, "takes 5 numbers a row, and features make 4"),
        ([Declared("x", Datatype.FP32, (4,))], {}, "has 1 axes and not rows and elements"),
        ([Declared("x", Datatype.BYTES, ("rows", 4))], {}, "takes no numbers"),
        (
            [Declared("x", Datatype.FP32, ("rows", 4))],
            {"to": "y"},
            "to fill 'y', and the model's inputs are x",
        ),
        ([Declared(each, Datatype.FP32, ("rows", 4)) for each in "ab"], {}, "write `to: NAME`"),
    ],
    ids=["width", "axes", "strings", "name", "which"],
)
def test_what_does_not_fit_the_model_is_refused_at_load(inputs, step, reason):
    with pytest.raises(LoadFailed, match=reason):
        skill(inputs, step)


def test_records_are_joined_when_probing_has_shown_that_they_may_be():
    wrapped, _ = skill([Declared("x", Datatype.FP32, ("rows", 4))], {})
    spec = Probe(wrapped, max_batch_size=4, pads={}).spec("m", "1")
    assert spec.joins_requests


# --- bytes ------------------------------------------------------------------------------------------------------------


def ends(content, dtype="i4", **options):
    return (
        EndsOf(Ends(**{"head": 4, "tail": 3, "pad": 256, **options}), np.dtype(dtype))
        .rows([content])[0]
        .tolist()
    )


def test_both_ends_of_a_file_are_numbers():
    assert ends(bytes(range(100))) == [0, 1, 2, 3, 97, 98, 99]


def test_what_a_short_file_lacks_is_padded_between_its_ends():
    assert ends(b"\1\2") == [1, 2, 256, 256, 256, 1, 2]
    assert ends(b"") == [256] * 7


def test_white_space_around_the_content_is_left_out():
    assert ends(b" \n\tabc \n", strip=True) == [*b"abc ", *b"abc"]


def test_only_one_end_is_enough():
    assert ends(b"abcdef", tail=0) == [*b"abcd"]
    assert ends(b"abcdef", head=0) == [*b"def"]


def test_a_padding_that_the_datatype_does_not_have_is_refused():
    with pytest.raises(LoadFailed, match="`pad: 256` does not fit into the model's uint8"):
        ends(b"", "u1")
    assert ends(b"", "f4", pad=math.inf) == [math.inf] * 7
