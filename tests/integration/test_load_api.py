"""The protocol's model repository extension: load, unload and index, with and without something to load instead."""

import base64
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http as triton

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

PAIR = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
CONFIG = json.dumps({"max_batch_size": "16", "platform": "onnxruntime_onnx"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "models")


@pytest.fixture(scope="module")
def steady(profiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A connection to one server for all that changes nothing."""
    folder = lay_out(tmp_path_factory.mktemp("steady"))
    with run_server([folder], profile_dir=profiles) as running, Wire(running.host, running.port) as wire:
        yield wire


@pytest.fixture
def server(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([folder], profile_dir=profiles, watch_s=0.05) as running:
        yield running


@pytest.fixture
def wire(server: RunningServer) -> Iterator[Wire]:
    with Wire(server.host, server.port) as connection:
        yield connection


def lay_out(folder: Path) -> Path:
    graphs.times(folder / "times" / "1" / "model.onnx", 1)
    graphs.times(folder / "plain.onnx", 3)
    return folder


def load(wire: Wire, name: str, **parameters: Any) -> Answer:
    return wire.post(f"/v2/repository/models/{name}/load", {"parameters": parameters} if parameters else None)


def unload(wire: Wire, name: str, **parameters: Any) -> Answer:
    return wire.post(
        f"/v2/repository/models/{name}/unload", {"parameters": parameters} if parameters else None
    )


def factor(wire: Wire, name: str) -> float:
    """What the model multiplies with; 0 if it does not answer."""
    answer = wire.infer(name, PAIR)
    return answer.json()["outputs"][0]["data"][0] if answer.status == 200 else 0


def index(wire: Wire, name: str) -> list[tuple[str, str, str]]:
    entries = wire.post("/v2/repository/index").json()
    return [(each["version"], each["state"], each["reason"]) for each in entries if each["name"] == name]


def times(path: Path, value: float) -> str:
    """A model in base64."""
    return base64.b64encode(graphs.times(path, value).read_bytes()).decode()


def test_an_unloaded_model_stays_so_until_it_is_loaded(wire: Wire) -> None:
    answer = unload(wire, "times", unload_dependents=True)
    assert (answer.status, answer.body) == (200, b"")
    eventually(lambda: index(wire, "times") == [("1", "UNAVAILABLE", "unloaded")], "it has ended")
    refused = wire.infer("times", PAIR)
    assert (refused.status, refused.error) == (
        404,
        "Request for unknown model: 'times' has no available versions",
    )
    assert wire.get("/v2/models/times/ready").status == 503
    assert wire.get("/v2/health/ready").status == 200
    assert load(wire, "times").status == 200
    assert factor(wire, "times") == 1
    assert index(wire, "times") == [("1", "READY", "")]


def test_an_unloaded_model_comes_back_when_its_files_change(wire: Wire, folder: Path) -> None:
    assert unload(wire, "times").status == 200
    graphs.times(folder / "times" / "1" / "model.onnx", 2)
    eventually(lambda: factor(wire, "times") == 2, "the change was loaded")


def test_loading_what_has_not_changed_leaves_it_alone(server: RunningServer, wire: Wire) -> None:
    before = server.server.catalog.versions("times")
    assert load(wire, "times").status == 200
    assert server.server.catalog.versions("times") == before


def test_a_load_that_fails_says_why_and_the_old_copy_serves_on(wire: Wire, folder: Path) -> None:
    (folder / "times" / "1" / "model.onnx").write_bytes(b"no model")
    answer = load(wire, "times")
    assert answer.status == 500
    assert answer.error.startswith("failed to load 'times', version 1: ")
    assert factor(wire, "times") == 1


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("models/nothing/load", 500, "failed to load 'nothing', failed to poll from model repository"),
        ("models//load", 400, "Model name cannot be empty. Please enter a valid name to deploy."),
        ("models/%20/load", 400, "Model name cannot be empty. Please enter a valid name to deploy."),
        ("models/..%2Fx/load", 400, "model name must not contain path traversal characters"),
        ("models/../load", 400, "model name must not contain path traversal characters"),
        ("models/a%5Cb/unload", 400, "model name must not contain path traversal characters"),
        ("models/nothing/unload", 404, "Request for unknown model: 'nothing' is not found"),
        ("other/models/times/load", 501, "'repository_name' specification is not supported"),
        ("other/models/times/unload", 501, "'repository_name' specification is not supported"),
    ],
)
def test_what_cannot_be_done_is_answered_in_the_protocols_words(
    steady: Wire, path: str, status: int, text: str
) -> None:
    answer = steady.post(f"/v2/repository/{path}")
    assert (answer.status, answer.error) == (status, text)


def test_an_operator_may_switch_it_off(folder: Path, profiles: Path) -> None:
    with (
        run_server([folder], profile_dir=profiles, load_api=False) as server,
        Wire(server.host, server.port) as wire,
    ):
        for answer in (load(wire, "times"), unload(wire, "times")):
            assert answer.status == 503
            assert "explicit model load / unload is not allowed" in answer.error
        assert factor(wire, "times") == 1


def test_a_configuration_may_take_the_place_of_the_one_on_disk(wire: Wire) -> None:
    for name in ("times", "plain"):
        assert load(wire, name, config=CONFIG).status == 200
        assert wire.get(f"/v2/models/{name}/config").json()["max_batch_size"] == 16
        assert load(wire, name).status == 200, "and gives way to it again"
        assert wire.get(f"/v2/models/{name}/config").json()["max_batch_size"] != 16
    assert (factor(wire, "times"), factor(wire, "plain")) == (1, 3)


def test_a_configuration_that_is_given_back_can_be_loaded_with_all_that_it_names(
    wire: Wire, folder: Path
) -> None:
    graphs.times(folder / "named" / "1" / "model.onnx", 5)
    (folder / "named" / "labels.txt").write_text("first\nsecond\n")
    (folder / "named" / "warmup").mkdir()
    (folder / "named" / "warmup" / "sample").write_bytes(bytes(8))
    (folder / "named" / "config.pbtxt").write_text(
        """
        max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: 2 }
        output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
        model_warmup { name: "w" batch_size: 1
          inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 input_data_file: "sample" } } }
        """
    )
    assert load(wire, "named").status == 200
    config = wire.get("/v2/models/named/config").json() | {"max_batch_size": 3}
    assert load(wire, "named", config=json.dumps(config)).status == 200
    assert wire.get("/v2/models/named/config").json()["max_batch_size"] == 3
    asked = PAIR | {"outputs": [{"name": "y", "parameters": {"classification": 1}}]}
    assert wire.infer("named", asked).json()["outputs"][0]["data"] == ["10.000000:1:second"]


def test_files_may_be_sent_and_go_with_their_version(
    wire: Wire, tmp_path: Path, folder: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    files = {"file:4/model.onnx": times(tmp_path / "m.onnx", 4)}
    assert load(wire, "sent", config=CONFIG, **files).status == 200
    assert load(wire, "times", config=CONFIG, **files).status == 200
    assert (factor(wire, "sent"), factor(wire, "times")) == (4, 4)
    assert index(wire, "times") == [("4", "READY", "")], "what was sent, and nothing from disk"
    looks = server.server.watcher._seen
    (folder / "other.fake").write_text("{}")
    eventually(lambda: server.server.watcher._seen is not looks and index(wire, "other"), "it was looked at")
    assert index(wire, "times") == [("4", "READY", "")], "what lies on disk has not changed"
    assert load(wire, "times").status == 200
    assert factor(wire, "times") == 1
    assert unload(wire, "sent").status == 200
    eventually(lambda: not list(private.iterdir()), "files that were made for them are gone")


@pytest.mark.parametrize(
    ("parameters", "status", "text"),
    [
        ({"file:1/model.onnx": "aGk="}, 400, "with a configuration only"),
        ({"config": CONFIG, "file:1/model.py": "aGk="}, 400, "is code"),
        ({"config": CONFIG, "file:1/ops.so.1": "aGk="}, 400, "is code"),
        ({"config": CONFIG, "file:../model.onnx": "aGk="}, 400, "is no place for a file"),
        ({"config": CONFIG, "file:1/../../model.onnx": "aGk="}, 400, "is no place for a file"),
        ({"config": CONFIG, "file:1/model.onnx": "%"}, 400, "is no base64"),
        ({"config": CONFIG, "file:1/model.onnx": 1}, 400, "has to be a string of base64"),
        ({"config": '{"backend": "python"}', "file:1/model.txt": "aGk="}, 400, "runs code"),
        ({"config": 5}, 400, "has to be a string"),
        ({"confg": CONFIG}, 400, "unknown parameter 'confg'"),
        ({"config": "{"}, 500, "failed to load 'times'"),
        ({"config": CONFIG, "file:1/model.onnx": "aGk="}, 500, "failed to load 'times'"),
    ],
    ids=range(12),
)
def test_what_cannot_be_loaded_instead_changes_nothing(
    steady: Wire, parameters: dict[str, Any], status: int, text: str
) -> None:
    answer = load(steady, "times", **parameters)
    assert answer.status == status
    assert text in answer.error
    assert factor(steady, "times") == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"parameters": 1}', b"[" * 100_000, b"\xff"], ids=range(5))
def test_a_body_that_is_none_is_the_senders_fault(steady: Wire, body: bytes) -> None:
    for verb in ("load", "unload"):
        assert steady.post(f"/v2/repository/models/times/{verb}", body).status == 400
    assert factor(steady, "times") == 1


def test_loads_and_unloads_of_one_model_take_turns(server: RunningServer, wire: Wire) -> None:
    def turn(verb: str) -> int:
        with Wire(server.host, server.port) as own:
            return own.post(f"/v2/repository/models/times/{verb}").status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(turn, ["load", "unload"] * 6)) == {200}
    assert load(wire, "times").status == 200
    assert factor(wire, "times") == 1
    eventually(lambda: len(list(server.server.catalog._everything())) == 2, "all other copies are gone")


def test_tritons_client_loads_and_unloads(server: RunningServer, tmp_path: Path) -> None:
    client = triton.InferenceServerClient(server.address)
    try:
        client.unload_model("times")
        assert not client.is_model_ready("times")
        client.load_model("times")
        assert client.is_model_ready("times")
        content = graphs.times(tmp_path / "m.onnx", 9).read_bytes()
        client.load_model("times", config=CONFIG, files={"file:3/model.onnx": content})
        assert client.get_model_config("times")["max_batch_size"] == 16
        assert [
            each["version"] for each in client.get_model_repository_index() if each["name"] == "times"
        ] == ["3"]
    finally:
        client.close()
