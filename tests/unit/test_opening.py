"""A stored profile is a file: what cannot be of the model is not believed."""

import pytest
from fakes import model, tensor
from msgspec.structs import replace

from headrace.backends.base import Declared
from headrace.execution.opening import Opening, is_about
from headrace.execution.profiles import ProfileStore
from headrace.execution.wire import Load, Profile
from headrace.messages import Datatype
from headrace.model_config import ModelConfig, QueuePolicy

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


def key_of(folder, config):
    """What a model's measurements are kept under."""
    path = folder / "model.onnx"
    path.touch()
    load = Load("m", "1", str(path), "onnxruntime", 2, 8, 8, config=config)
    return Opening(load, ProfileStore(folder))._key


def test_how_requests_wait_is_no_reason_to_measure_again(tmp_path):
    shared = ModelConfig(
        weight=2.0,
        levels={1: QueuePolicy(share=0.5), 2: QueuePolicy()},
        default_level=2,
        latency_p99_s=0.1,
        priority=1,
        description="other words",
    )
    assert key_of(tmp_path, shared) == key_of(tmp_path, ModelConfig())
    assert key_of(tmp_path, ModelConfig(parameters={"a": "b"})) != key_of(tmp_path, ModelConfig())
