"""A static answer belongs to whoever edits its file: it is given as it is now, and no model is loaded again for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration

LOOK_S = 0.05
TWO_ROWS = {"inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]}
SKILL = "fallback: {on: [breaker], chain: [{static: popular.json}]}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "models" / "times" / "popular.json"
    graphs.times(file.parent / "model.onnx", 2.0)
    (file.parent / "skill.yaml").write_text(SKILL)
    write(file, '{"y": [7, 8]}')
    return file


@pytest.fixture
def wire(file: Path, profiles: Path) -> Iterator[Wire]:
    with (
        run_server([file.parents[1]], profile_dir=profiles, watch_s=LOOK_S) as running,
        connect(running) as wire,
    ):
        assert wire.post("/v1/breakers/times", {"state": "open"}).status == 200
        yield wire


def connect(server: RunningServer) -> Wire:
    return Wire(server.host, server.port)


def write(file: Path, text: str) -> None:
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


def answer(wire: Wire) -> object:
    return wire.post("/v1/skills/times", {"x": [1, 2]}).json().get("answer")


def served(wire: Wire) -> dict:
    (version,) = wire.get("/v1/versions/times").json()["versions"]
    return version


def test_a_changed_file_is_given_by_the_model_that_was_loaded_before(wire, file):
    before = served(wire)["pids"]
    assert answer(wire) == {"y": [7, 8]}
    write(file, '{"y": [9, 10]}')
    eventually(lambda: answer(wire) == {"y": [9, 10]}, "the new answer is given")
    graphs.times(file.parents[1] / "late.onnx", 3.0)
    eventually(lambda: wire.get("/v2/models/late/ready").status == 200, "what has changed since is loaded")
    assert served(wire)["pids"] == before


def test_a_broken_file_leaves_its_answer_and_the_model_alone_and_is_told(wire, file):
    before = served(wire)["pids"]
    assert answer(wire) == {"y": [7, 8]}
    write(file, "{")
    eventually(
        lambda: "popular.json is not JSON" in json.dumps(wire.post("/v2/repository/index", {}).json()),
        "the index says what is wrong",
    )
    assert answer(wire) == {"y": [7, 8]}
    write(file, '{"y": [0, 0]}')
    eventually(lambda: answer(wire) == {"y": [0, 0]}, "the mended answer is given")
    assert served(wire)["pids"] == before


def test_each_row_of_the_protocol_gets_the_answer_in_the_models_datatype(wire):
    response = wire.post("/v2/models/times/infer", TWO_ROWS)
    assert response.status == 200, response.raw
    content = response.json()
    (output,) = content["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("FP32", [2, 2], [7, 8, 7, 8])
    assert content["parameters"]["degraded"] == "static"


def test_an_answer_that_does_not_fit_the_model_is_passed_over(wire, file):
    write(file, '{"y": [1, 2, 3]}')
    eventually(
        lambda: wire.post("/v2/models/times/infer", TWO_ROWS).status == 503,
        "the protocol's callers are told why",
    )
    assert answer(wire) == {"y": [1, 2, 3]}


def test_a_broken_file_takes_the_other_steps_from_no_skill_that_cannot_be_loaded(tmp_path, profiles):
    file = tmp_path / "models" / "times" / "popular.json"
    graphs.times(file.parent / "small.onnx", 3.0)
    (file.parent / "big.onnx").write_bytes(b"no model")
    (file.parent / "skill.yaml").write_text(
        "variants: {big: {model: big.onnx}, small: {model: small.onnx}}\n"
        "fallback: {chain: [{variant: small}, {static: popular.json}]}\n"
    )
    write(file, '{"y": [7, 8]}')
    with (
        run_server([file.parents[1]], profile_dir=profiles, watch_s=LOOK_S) as running,
        connect(running) as wire,
    ):
        assert answer(wire) == {"y": [3, 6]}
        assert wire.post("/v1/breakers/times.small", {"state": "open"}).status == 200
        assert answer(wire) == {"y": [7, 8]}
        write(file, "{")
        eventually(
            lambda: "popular.json is not JSON" in json.dumps(wire.post("/v2/repository/index", {}).json()),
            "the index says what is wrong",
        )
        assert answer(wire) == {"y": [7, 8]}
        assert wire.post("/v1/breakers/times.small", {"state": "auto"}).status == 200
        assert answer(wire) == {"y": [3, 6]}
        write(file, '{"y": [0, 0]}')
        eventually(
            lambda: "popular.json" not in json.dumps(wire.post("/v2/repository/index", {}).json()),
            "nothing is wrong with the file any more",
        )
        graphs.times(file.parent / "big.onnx", 2.0)
        eventually(lambda: answer(wire) == {"y": [2, 4]}, "what can be loaded now is")
