"""A backend with steps around it: rows that fail, inputs that stay, what a measurement depends on."""

import json

import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared, GivesExamples, ItemErrors
from headrace.errors import InferenceFailed, InvalidRequest, LoadFailed
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.kinds import fingerprint
from headrace.transforms.wrapped import WrappedBackend, wrap

X = Declared("x", Datatype.FP32, ("rows", 1))
BIAS = Declared("bias", Datatype.FP32, ("rows", 1))
Y = Declared("y", Datatype.FP32, ("rows", 1))
RECORD = {"record": {"kind": "record", "record": {"n": "number"}, "to": "x"}}


def wrapped(function, *inputs, steps=RECORD, outputs=()):
    model = Function(inputs or (X,), outputs or (Y,), function)
    return wrap(model, ModelConfig(steps={"inputs": steps, "outputs": {}}), {})


def records(*numbers):
    column = np.empty(len(numbers), object)
    column[:] = [json.dumps({"n": number}).encode() for number in numbers]
    return {"record": column}


def test_without_steps_the_backend_is_as_it_was():
    model = Function([X], [Y], lambda arrays: arrays)
    assert wrap(model, ModelConfig(), {}) is model
    assert wrap(model, ModelConfig(steps={"inputs": {"x": {"kind": "tensor"}}, "outputs": {}}), {}) is model


def test_rows_that_the_model_refuses_fail_beside_those_that_could_not_be_read():
    def run(arrays):
        refused = {at: InferenceFailed("too much") for at, value in enumerate(arrays["x"]) if value > 9}
        if refused:
            raise ItemErrors([arrays["x"] * 2], refused)
        return {"y": arrays["x"] * 2}

    with pytest.raises(ItemErrors) as raised:
        wrapped(run).run(records(1, "x", 10, 3), ["y"])
    assert [(row, str(why)[:16]) for row, why in sorted(raised.value.errors.items())] == [
        (1, "feature 'n' must"),
        (2, "too much"),
    ]
    assert raised.value.outputs[0].ravel()[[0, 3]].tolist() == [2, 6]


def test_inputs_that_are_not_filled_are_still_sent_and_follow_their_rows():
    model = wrapped(lambda arrays: {"y": arrays["x"] + arrays["bias"]}, X, BIAS)
    assert [each.name for each in model.inputs] == ["record", "bias"]
    bias = {"bias": np.array([[10], [20], [30]], "f4")}
    with pytest.raises(ItemErrors) as raised:
        model.run(records(1, "x", 3) | bias, ["y"])
    assert raised.value.outputs[0].ravel().tolist() == [11, 0, 33]


def test_inputs_of_different_rows_are_refused():
    steps = {
        "record": RECORD["record"],
        "other": {"kind": "record", "record": {"m": "number"}, "to": "bias"},
    }
    model = wrapped(lambda arrays: {"y": arrays["x"]}, X, BIAS, steps=steps)
    inputs = records(1, 2) | {"other": records(1)["record"]}
    with pytest.raises(InvalidRequest, match="different numbers of rows"):
        model.run(inputs, ["y"])


def test_two_inputs_cannot_fill_one():
    steps = {"a": {**RECORD["record"]}, "b": {**RECORD["record"]}}
    with pytest.raises(LoadFailed, match="inputs 'a' and 'b' both fill the model's 'x'"):
        wrapped(lambda arrays: arrays, steps=steps)


def test_inputs_that_other_workers_fill_have_to_be_the_models_too():
    with pytest.raises(LoadFailed, match="input 'photo' is to fill 'photo', and the model's inputs are x"):
        wrapped(lambda arrays: arrays, steps={"photo": {"kind": "image", "image": {}}})


def test_it_makes_up_its_own_inputs_and_clones_of_it_too():
    model = wrapped(lambda arrays: {"y": arrays["x"]})
    assert isinstance(model, GivesExamples)
    assert isinstance(model.clone(), WrappedBackend)
    assert model.clone().run(model.clone().examples(1, 3), ["y"])[0].shape == (3, 1)


def test_only_outputs_that_are_wanted_are_asked_of_the_model():
    asked = []

    class Watched(Function):
        def run(self, inputs, wanted):
            asked.append(wanted)
            return super().run(inputs, wanted)

    model = Watched([X], [Y, Declared("z", Datatype.FP32, ("rows", 1))], lambda a: {"y": a["x"], "z": a["x"]})
    wrap(model, ModelConfig(steps={"inputs": RECORD, "outputs": {}}), {}).run(records(1), ["z"])
    assert asked == [["z"]]


def test_a_measurement_depends_on_the_steps_and_on_what_their_files_hold(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    steps = {"inputs": {}, "outputs": {"y": {"kind": "labels", "labels": str(labels)}}}
    first = fingerprint(steps)
    assert fingerprint(json.loads(json.dumps(steps))) == first
    labels.write_text("a\nc\n")
    second = fingerprint(steps)
    steps["outputs"]["y"]["top_k"] = 2
    assert len({first, second, fingerprint(steps), fingerprint({})}) == 4
    labels.unlink()
    with pytest.raises(LoadFailed, match="cannot be read"):
        fingerprint(steps)
