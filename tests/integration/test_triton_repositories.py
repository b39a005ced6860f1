"""Repositories written for Triton, served as they are: what loads, what is refused, and what it then looks like."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration

PLAIN = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""
MLP = PLAIN.replace("[ 10 ]", '[ 10 ] label_filename: "digits.txt"')
ZEROS = "{ data_type: TYPE_FP32 dims: 63 zero_data: true }"
SAMPLE = "{ data_type: TYPE_FP32 dims: [ 64 ] input_data_file: 'sample' }"
GOOD = {
    "automatic": "",
    "mlp": f"""
        name: "mlp" platform: "onnxruntime_onnx" max_batch_size: 4 {MLP}
        instance_group [ {{ count: 1 kind: KIND_CPU }} ]
        dynamic_batching {{ preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 500 }}
        model_warmup [ {{ name: "real" batch_size: 4 inputs {{ key: "x" value {SAMPLE} }} }} ]
    """,
    "unbatched": f'backend: "onnxruntime" {MLP.replace("[ 64 ]", "[ -1, 64 ]").replace("[ 10 ]", "[ -1, 10 ]")}',
    "times_latest": "version_policy { latest { num_versions: 2 } }",
    "times_specific": "version_policy { specific { versions: [ 1, 7 ] } }",
    "folded": """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }
        output { name: "y" data_type: TYPE_FP32 dims: [ 1, 4 ] reshape { shape: [ 2, 2 ] } }
    """,
    "external": 'default_model_filename: "weights.onnx" backend: "onnxruntime"',
    "tuned": """
        max_batch_size: 8
        optimization { graph { level: -1 } cuda { graphs: true } }
        parameters { key: "intra_op_thread_count" value { string_value: "1" } }
        parameters { key: "enable_mem_pattern" value { string_value: "0" } }
    """,
    "levels": """
        max_batch_size: 8
        dynamic_batching {
          priority_levels: 2 default_priority_level: 2
          default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 10000000 }
        }
    """,
    "python": """
        backend: "python" max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
        parameters { key: "factor" value { string_value: "3" } }
    """,
    "strings": 'max_batch_size: 8 input { name: "x" data_type: TYPE_STRING dims: [ 4 ] }',
}
REFUSED = {
    "ensemble": (
        'platform: "ensemble" ensemble_scheduling { step { model_name: "mlp" model_version: -1 } }',
        "ensembles are not supported",
    ),
    "sequence": ("max_batch_size: 4 sequence_batching { direct { } }", "sequences are not supported"),
    "plan": ('platform: "tensorrt_plan"', "platform 'tensorrt_plan' is not one of"),
    "typo": ("max_batchsize: 4", "line 1, column 1: .* is 'max_batch_size' meant?"),
    "renamed": ('name: "another"', "directory name must equal model name"),
    "gpu": ("instance_group { kind: KIND_GPU }", "has kind KIND_GPU but no GPUs are available"),
    "wide": (PLAIN.replace("64", "65") + "max_batch_size: 4", "64"),
    "integers": (
        'max_batch_size: 4 input { name: "x" data_type: TYPE_INT64 dims: [ 64 ] }',
        "INT64",
    ),
    "misnamed": (
        'max_batch_size: 4 input { name: "z" data_type: TYPE_FP32 dims: [ 64 ] }',
        "unexpected inference input 'z', allowed inputs are: x",
    ),
    "cold": (
        f'{PLAIN} max_batch_size: 4 model_warmup {{ name: "short" batch_size: 1 inputs {{ key: "x" value {ZEROS} }} }}',
        "'short'",
    ),
    "unlabelled": (MLP, "digits.txt cannot be read"),
    "theirs": ('backend: "python"', "class TritonPythonModel"),
    "absent": ("version_policy { specific { versions: [ 9 ] } }", "at least one version must be available"),
}


MODEL_PY = """
class Model:
    def load(self, context):
        self.factor = float(context.parameters["factor"])

    def infer(self, inputs):
        return {"y": inputs["x"].sum(axis=1, keepdims=True) * self.factor}
"""
WITHOUT_MLP = {"times_latest", "times_specific", "folded", "external", "strings", "python", "theirs"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, config in {**GOOD, **{name: config for name, (config, _) in REFUSED.items()}}.items():
        (folder / name).mkdir()
        (folder / name / "config.pbtxt").write_text(config)
        if name not in WITHOUT_MLP:
            graphs.mlp(folder / name / "1" / "model.onnx")
    for name in ("mlp", "unbatched"):
        (folder / name / "digits.txt").write_text("\n".join("abcdefghij"))
    (folder / "mlp" / "warmup").mkdir()
    (folder / "mlp" / "warmup" / "sample").write_bytes(np.ones(64, "<f4").tobytes())
    for name in ("times_latest", "times_specific"):
        for version in (1, 2, 10):
            graphs.times(folder / name / str(version) / "model.onnx", version)
    square(folder / "folded" / "1" / "model.onnx")
    graphs.external(folder / "external" / "3" / "weights.onnx")
    graphs.identity(folder / "strings" / "1" / "model.onnx", "BYTES")
    for name, code in (("python", MODEL_PY), ("theirs", "class TritonPythonModel: ...")):
        (folder / name / "1").mkdir()
        (folder / name / "1" / "model.py").write_text(code)
    return folder


def square(path: Path) -> None:
    """x [rows, 2, 2] → y, the same transposed."""
    nodes = [onnx.helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1])]
    graphs.save(path, nodes, [("x", "FP32", ["rows", 2, 2])], [("y", "FP32", ["rows", 2, 2])])


@pytest.fixture(scope="module")
def served(repository: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([repository], profile_dir=profiles) as server:
        yield server


@pytest.fixture
def wire(served: RunningServer) -> Iterator[Wire]:
    with Wire(served.host, served.port) as wire:
        yield wire


@pytest.fixture(scope="module")
def index(served: RunningServer) -> dict[str, list[dict[str, Any]]]:
    with Wire(served.host, served.port) as wire:
        entries = wire.post("/v2/repository/index").json()
    names = {each["name"] for each in entries}
    return {name: [each for each in entries if each["name"] == name] for name in names}


@pytest.mark.parametrize(
    ("name", "versions"),
    [(name, ["1"]) for name in GOOD if "times" not in name and name != "external"]
    + [("times_latest", ["2", "10"]), ("times_specific", ["1"]), ("external", ["3"])],
)
def test_what_triton_loads_is_ready(index: dict[str, Any], name: str, versions: list[str]) -> None:
    assert [(each["version"], each["state"], each["reason"]) for each in index[name]] == [
        (version, "READY", "") for version in versions
    ]


@pytest.mark.parametrize("name", REFUSED)
def test_what_triton_refuses_is_refused_with_its_reason(index: dict[str, Any], name: str) -> None:
    (entry,) = index[name]
    assert entry["state"] == "UNAVAILABLE"
    assert re.search(REFUSED[name][1], entry["reason"])


def test_nothing_else_is_there(index: dict[str, Any]) -> None:
    assert set(index) == {*GOOD, *REFUSED}


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("mlp", [[-1, 64]], [[-1, 10]]),
        ("unbatched", [[-1, 64]], [[-1, 10]]),
        ("folded", [[-1, 4]], [[-1, 1, 4]]),
        ("automatic", [[-1, 64]], [[-1, 10]]),
        ("strings", [[-1, 4]], [[-1, 4]]),
    ],
)
def test_metadata_has_the_shapes_that_were_declared(
    wire: Wire, name: str, inputs: list[list[int]], outputs: list[list[int]]
) -> None:
    said = wire.get(f"/v2/models/{name}").json()
    assert [each["shape"] for each in said["inputs"]] == inputs
    assert [each["shape"] for each in said["outputs"]] == outputs
    assert said["platform"] == "onnxruntime_onnx"


def test_the_configuration_is_given_back_as_triton_does(wire: Wire) -> None:
    config = wire.get("/v2/models/mlp/config").json()
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("mlp", "onnxruntime", 4)
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["input"][0]["dims"] == [64]
    assert config["output"][0]["label_filename"] == "digits.txt"
    assert config["instance_group"][0]["count"] == 1
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 500
    assert config["dynamic_batching"]["preferred_batch_size"] == [4]
    assert config["model_warmup"][0]["inputs"]["x"]["dims"] == [64]
    assert config["model_transaction_policy"] == {"decoupled": False}
    found = wire.get("/v2/models/automatic/config").json()
    assert found["max_batch_size"] > 0
    assert [each["dims"] for each in found["input"] + found["output"]] == [[64], [10]]
    assert found["instance_group"][0]["count"] >= 1


def test_answers_are_the_models(wire: Wire) -> None:
    rows = np.random.default_rng(0).random((3, 64), np.float32)
    request = {"inputs": [tensor("x", "FP32", [3, 64], rows.ravel().tolist())]}
    answers = [wire.infer(name, request) for name in ("automatic", "mlp", "unbatched", "tuned", "levels")]
    data = [each.json()["outputs"][0]["data"] for each in answers]
    for each in data[1:]:
        np.testing.assert_allclose(each, data[0], rtol=1e-5, atol=1e-6)


def test_a_reshaped_tensor_is_what_callers_declare(wire: Wire) -> None:
    answer = wire.infer("folded", {"inputs": [tensor("x", "FP32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])]}).json()
    assert answer["outputs"][0]["shape"] == [2, 1, 4]
    assert answer["outputs"][0]["data"] == [1, 3, 2, 4, 5, 7, 6, 8]


def test_a_python_model_has_the_parameters(wire: Wire) -> None:
    answer = wire.infer("python", {"inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]}).json()
    assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == ([2, 1], [9, 21])


def test_more_rows_than_declared_are_refused_in_tritons_words(wire: Wire) -> None:
    answer = wire.infer("mlp", {"inputs": [tensor("x", "FP32", [5, 64], [0.5] * 320)]})
    assert answer.status == 400
    assert "inference request batch-size must be <= 4 for 'mlp'" in answer.error


def test_a_request_without_a_version_goes_to_the_highest(wire: Wire) -> None:
    request = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
    answer = wire.infer("times_latest", request).json()
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("10", [10, 20])
    assert wire.infer("times_latest/versions/2", request).json()["outputs"][0]["data"] == [2, 4]
    gone = wire.infer("times_latest/versions/1", request)
    assert (gone.status, gone.error) == (
        404,
        "Request for unknown model: 'times_latest' version 1 is not found",
    )


def test_labels_come_with_a_classification(wire: Wire) -> None:
    request = {
        "inputs": [tensor("x", "FP32", [1, 64], [0.5] * 64)],
        "outputs": [{"name": "y", "parameters": {"classification": 2}}],
    }
    output = wire.infer("mlp", request).json()["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    for text in output["data"]:
        _, at, label = text.split(":")
        assert label == "abcdefghij"[int(at)]


def test_a_priority_and_a_timeout_are_taken(wire: Wire) -> None:
    inputs = [tensor("x", "FP32", [1, 64], [0.5] * 64)]
    for parameters in ({"priority": 1}, {"priority": 9}, {"timeout": 5_000_000}):
        assert wire.infer("levels", {"inputs": inputs, "parameters": parameters}).status == 200


def test_a_models_own_folder_has_the_name_it_says(repository: Path, tmp_path: Path, profiles: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(repository / "mlp", folder)
    with run_server([folder], profile_dir=profiles) as server, Wire(server.host, server.port) as wire:
        assert wire.get("/v2/models/mlp/ready").status == 200
