"""A stored profile is a file: what cannot be of the model is not believed."""

import pytest
from fakes import model, tensor
from msgspec.structs import replace

from headrace.backends.base import Declared
from headrace.execution.opening import is_about
from headrace.execution.wire import Profile
from headrace.messages import Datatype

SPEC = model(tensor("x"), outputs=[tensor("y")])
DECLARED = (Declared("x", Datatype.FP32, ("n", 2)),), (Declared("y", Datatype.FP32, ("n", 2)),)


class Opened:
    inputs, outputs = DECLARED


def test_a_profile_of_the_model_is_believed():
    assert is_about(Profile(SPEC, 2, 1), SPEC, Opened())


@pytest.mark.parametrize(("instances", "threads"), [(0, 1), (-1, 1), (100_000, 1), (1, 0)])
def test_instances_and_threads_nobody_runs_are_not(instances, threads):
    assert not is_about(Profile(SPEC, instances, threads), SPEC, Opened())


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, inputs=()),
        replace(SPEC, inputs=(tensor("other"),)),
        replace(SPEC, inputs=(tensor("x", Datatype.INT8),)),
        replace(SPEC, outputs=(tensor("y", batch_axis=7),)),
    ],
)
def test_tensors_that_are_not_the_models_are_not(spec):
    assert not is_about(Profile(spec), spec, Opened())
