"""What a repository declares, held against what the artifact has."""

from pathlib import Path

import numpy as np
import pytest

from headrace.backends.base import Declared, ItemErrors
from headrace.backends.declared import DeclaredBackend
from headrace.errors import InvalidItem, LoadFailed
from headrace.messages import Datatype
from headrace.model_config import NOTHING_SAID, DeclaredTensor, ModelConfig


class Echo:
    """x [n, 2, 3] → y, the same; z [n] → the first number of each row; rows with a negative one fail."""

    platform = "echo"
    inputs: tuple[Declared, ...] = (Declared("x", Datatype.FP32, ("n", 2, 3)),)
    outputs: tuple[Declared, ...] = (
        Declared("y", Datatype.FP32, ("n", 2, 3)),
        Declared("z", Datatype.FP32, ("n",)),
    )

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        """There is nothing to open."""

    def clone(self) -> "Echo":
        return self

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        x = inputs["x"]
        assert x.shape[1:] == (2, 3), "in the artifact's shape"
        outputs = [{"y": x, "z": x[:, 0, 0]}[name] for name in wanted]
        wrong = {int(row): InvalidItem("negative") for row in np.flatnonzero(x.min((1, 2)) < 0)}
        if wrong:
            raise ItemErrors([] if len(wrong) == len(x) else outputs, wrong)
        return outputs


def declared(**more) -> DeclaredBackend:
    return DeclaredBackend(Echo(), ModelConfig(**{"max_batch_size": 8, **more}))


FLAT_IN = DeclaredTensor("x", Datatype.FP32, (6,), reshape=(2, 3))
FLAT_OUT = DeclaredTensor("y", Datatype.FP32, (6,), reshape=(2, 3))
NUMBERS = np.arange(12, dtype="f4").reshape(2, 6)


def test_callers_see_the_declared_shapes_and_the_model_its_own():
    backend = declared(inputs=(FLAT_IN,), outputs=(FLAT_OUT,))
    assert backend.inputs == (Declared("x", Datatype.FP32, ("n", 6)),)
    assert backend.outputs == (Declared("y", Datatype.FP32, ("n", 6)),)
    (y,) = backend.run({"x": NUMBERS}, ["y"])
    assert np.array_equal(y, NUMBERS)


def test_an_output_of_no_axes_but_the_batch_can_be_given_one():
    backend = declared(inputs=(FLAT_IN,), outputs=(DeclaredTensor("z", Datatype.FP32, (1,), reshape=()),))
    (z,) = backend.run({"x": NUMBERS}, ["z"])
    assert z.tolist() == [[0], [6]]


def test_sizes_that_vary_stay_as_they_are():
    backend = DeclaredBackend(
        Echo(),
        ModelConfig(max_batch_size=0, inputs=(DeclaredTensor("x", None, (-1, 6), reshape=(-1, 2, 3)),)),
    )
    y, _ = backend.run({"x": NUMBERS}, ["y", "z"])
    assert y.shape == (2, 2, 3)


def test_rows_that_fail_leave_the_others_in_their_declared_shape():
    backend = declared(inputs=(FLAT_IN,), outputs=(FLAT_OUT,))
    with pytest.raises(ItemErrors) as caught:
        backend.run({"x": NUMBERS * [[1], [-1]]}, ["y"])
    assert list(caught.value.errors) == [1]
    assert caught.value.outputs[0].shape == (2, 6)


def test_where_all_rows_fail_there_may_be_no_outputs():
    backend = declared(inputs=(FLAT_IN,), outputs=(FLAT_OUT,))
    with pytest.raises(ItemErrors) as caught:
        backend.run({"x": -1 - NUMBERS}, ["y"])
    assert caught.value.outputs == []


def test_only_declared_outputs_are_there():
    assert [each.name for each in declared(outputs=(DeclaredTensor("z"),)).outputs] == ["z"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"inputs": (DeclaredTensor("w"),)}, "unexpected inference input 'w', allowed inputs are: x"),
        ({"outputs": (DeclaredTensor("w"),)}, "unexpected inference output 'w', allowed outputs are: y, z"),
        ({"inputs": (DeclaredTensor("x", Datatype.INT64),)}, "declared as INT64, and the model has FP32"),
        ({"inputs": (DeclaredTensor("x", None, (6,)),)}, "the model has shape [-1, 2, 3]"),
        ({"inputs": (DeclaredTensor("x", None, (2, 4)),)}, "gives [-1, 2, 4]"),
        ({"inputs": (DeclaredTensor("x", None, (2, -1)),)}, "gives [-1, 2, -1]"),
        ({"inputs": (DeclaredTensor("x", None, (2, 3), is_optional=True),)}, "declared optional"),
        ({"inputs": (DeclaredTensor("x", None, (2, 3)),), "max_batch_size": 0}, "gives [2, 3] (dims)"),
    ],
)
def test_what_does_not_agree_is_said_with_both_sides(config, words):
    with pytest.raises(LoadFailed) as caught:
        declared(**config)
    assert words in str(caught.value)


def test_nothing_said_changes_nothing():
    backend = DeclaredBackend(Echo(), NOTHING_SAID)
    assert (backend.inputs, backend.outputs) == (Echo.inputs, Echo.outputs)
