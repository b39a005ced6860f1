"""Repositories written for other servers, served as they are: every model answers under its name, or says why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layouts import Link, lay_out

from headrace.errors import ConfigurationError
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

SETTINGS: dict[str, Any] = {
    "tfs/models.config": """model_config_list {
        config { name: "newest" base_path: "times" }
        config { name: "chosen" base_path: "/models/times" model_version_policy { specific { versions: 1 versions: 2 } } }
        config { name: "saved" base_path: "saved" }
    }""",
    "tfs/saved/1/saved_model.pb": b"x",
    "ovms/config.json": {
        "model_config_list": [
            {
                "config": {
                    "name": "every",
                    "base_path": "times",
                    "model_version_policy": {"all": {}},
                    "nireq": 2,
                }
            },
            {"config": {"name": "lost", "base_path": "gone"}},
        ]
    },
    "mlserver/batched/model-settings.json": {
        "name": "batched",
        "max_batch_size": 4,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "parameters": {"uri": "./weights/times.onnx", "version": "v2.0"},
    },
    "mlserver/single/model-settings.json": {"name": "single", "max_batch_size": 0},
    "mlserver/wrong/model-settings.json": {
        "name": "wrong",
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 2]}],
    },
    "mlserver/iris/model-settings.json": {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel"},
    "mlserver/half/model-settings.json": '{"name": "half",\n',
    "kubernetes/m": Link("..data/m"),
}


def times(folder: Path, *versions: int) -> None:
    """Version N multiplies by N."""
    for version in versions:
        graphs.times(folder / str(version) / "model.onnx", float(version))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repositories")
    times(folder / "tfs" / "times", 1, 2, 10)
    times(folder / "ovms" / "times", 4, 5)
    times(folder / "kubernetes" / "..data" / "m", 7)
    graphs.times(folder / "mlserver" / "batched" / "weights" / "times.onnx", 3.0)
    for name in ("single", "wrong"):
        graphs.times(folder / "mlserver" / name / "model.onnx", 6.0)
    return lay_out(folder, SETTINGS)


@pytest.fixture(scope="module")
def served(repository: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([repository], profile_dir=profiles, instances=1, threads=1) as running:
        yield running


@pytest.fixture
def asked(served: RunningServer) -> Iterator[Wire]:
    with Wire(served.host, served.port) as wire:
        yield wire


def ask(wire: Wire, model: str, rows: int = 1) -> Answer:
    return wire.infer(model, {"inputs": [tensor("x", "FP32", [rows, 2], [1.0] * 2 * rows)]})


@pytest.mark.parametrize(
    ("model", "version", "factor"),
    [
        ("newest", "10", 10),
        ("chosen", "2", 2),
        ("chosen/versions/1", "1", 1),
        ("every", "5", 5),
        ("every/versions/4", "4", 4),
        ("batched", "1", 3),
        ("single", "1", 6),
        ("m", "7", 7),
    ],
)
def test_each_model_answers_with_the_version_its_own_server_would_choose(
    asked: Wire, model: str, version: str, factor: int
) -> None:
    answer = ask(asked, model)
    assert answer.status == 200, answer.body
    content = answer.json()
    assert content["model_version"] == version
    assert content["outputs"][0]["data"] == [factor, factor]


@pytest.mark.parametrize("model", ["newest/versions/2", "chosen/versions/10"])
def test_versions_that_are_not_chosen_are_not_there(asked: Wire, model: str) -> None:
    assert ask(asked, model).status == 404


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("saved", "a TensorFlow SavedModel: convert it with"),
        ("lost", "config.json: "),
        ("iris", "implementation mlserver_sklearn.SKLearnModel is not run here"),
        ("half", "model-settings.json:2: not JSON"),
        ("wrong", "INT64"),
    ],
)
def test_what_is_refused_says_why_and_costs_only_itself(asked: Wire, model: str, reason: str) -> None:
    assert asked.get("/v2/health/ready").status == 200
    (entry,) = (each for each in asked.post("/v2/repository/index").json() if each["name"] == model)
    assert entry["state"] == "UNAVAILABLE"
    assert reason in entry["reason"]
    answer = ask(asked, model)
    assert answer.status == 503
    assert reason in answer.error


def test_no_batching_is_honoured(served: RunningServer) -> None:
    specs = {
        name: served.server.catalog.versions(name)[0].snapshot().spec
        for name in ("batched", "single", "newest")
    }
    assert {name: spec.joins_requests for name, spec in specs.items()} == {
        "batched": True,
        "single": False,
        "newest": True,
    }


def test_a_batch_beyond_what_is_declared_is_refused(asked: Wire) -> None:
    assert ask(asked, "batched", 4).status == 200
    assert ask(asked, "batched", 5).status == 400


def test_the_only_model_is_served_under_the_name_that_was_asked_for(tmp_path: Path, profiles: Path) -> None:
    times(tmp_path / "models", 1, 3)
    with (
        run_server([tmp_path / "models"], profile_dir=profiles, model_name="isvc") as server,
        Wire(server.host, server.port) as wire,
    ):
        assert wire.get("/v2/models/isvc/ready").status == 200
        assert wire.get("/v2/models/models/ready").status != 200
        assert ask(wire, "isvc").json()["outputs"][0]["data"] == [3, 3]
        assert ask(wire, "isvc/versions/1").json()["outputs"][0]["data"] == [1, 1]


def test_one_name_for_several_models_does_not_start(repository: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave it out"), run_server([repository], model_name="isvc"):
        pass
