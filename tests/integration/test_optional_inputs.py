"""Inputs that a request may leave out, since the model has values of its own for them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

CONFIG = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "k" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    """scaled: x [rows, 2] times k [rows, 1], which is 10 if nobody says."""
    folder = tmp_path_factory.mktemp("optional") / "scaled"
    graphs.save(
        folder / "1" / "model.onnx",
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [("x", "FP32", ["rows", 2]), ("k", "FP32", ["rows", 1])],
        [("y", "FP32", ["rows", 2])],
        k=np.array([[10]], "f4"),
    )
    (folder / "config.pbtxt").write_text(CONFIG)
    with run_server([folder.parent], profile_dir=profiles) as running:
        yield running


def ask(server: RunningServer, x: float, k: float | None = None) -> Answer:
    inputs = [tensor("x", "FP32", [1, 2], [x, 1])]
    if k is not None:
        inputs.insert(0, tensor("k", "FP32", [1, 1], [k]))
    with Wire(server.host, server.port) as wire:
        return wire.infer("scaled", {"inputs": inputs})


def test_what_is_left_out_has_the_models_own_value(server: RunningServer):
    assert ask(server, 3).json()["outputs"][0]["data"] == [30, 10]
    assert ask(server, 3, 2).json()["outputs"][0]["data"] == [6, 2]


def test_requests_with_and_without_it_side_by_side_each_get_their_own(server: RunningServer):
    asked = [(float(at), float(at) if at % 2 else None) for at in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(server, *each), asked))
    for (x, k), answer in zip(asked, answers, strict=True):
        factor = 10 if k is None else k
        assert answer.json()["outputs"][0]["data"] == [factor * x, factor]


def test_several_rows_may_leave_it_out(server: RunningServer):
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("scaled", {"inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]})
    assert answer.json()["outputs"][0]["data"] == [10, 20, 30, 40]


def test_what_is_needed_is_named_with_how_many_there_may_be(server: RunningServer):
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("scaled", {"inputs": [tensor("k", "FP32", [1, 1], [2])]})
    assert answer.status == 400
    assert "expected number of inputs between 1 and 2 but got 1 inputs for model 'scaled'" in answer.error
    assert "missing required input(s) ['x']" in answer.error


def test_the_configuration_says_that_it_is_optional(server: RunningServer):
    with Wire(server.host, server.port) as wire:
        config = wire.get("/v2/models/scaled/config").json()
    assert [each["optional"] for each in config["input"]] == [False, True]
