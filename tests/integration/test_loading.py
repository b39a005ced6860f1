"""Models that cannot be loaded say why in the index; everything beside them is served."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from headrace.errors import ConfigurationError
from headrace.testing import run_server
from tests.integration import graphs
from tests.integration.process import children, serving
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration

ROW = {"inputs": [tensor("x", "FP32", [1, graphs.FEATURES], [0.5] * graphs.FEATURES)]}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with every kind of broken model beside good ones."""
    folder = tmp_path_factory.mktemp("broken")
    whole = graphs.mlp(folder / "good.onnx").read_bytes()
    files: dict[str, bytes] = {
        "half.onnx": whole[: len(whole) // 2],
        "noise.onnx": bytes(range(256)) * 40,
        "empty.onnx": b"",
        "text.onnx": b"not a model at all\n",
        "refusing.fake": b'{"load_fails": "told to"}',
        "crashing.fake": b'{"load_dies": true}',
        "twin.onnx": whole,
        "bare/1/.keep": b"",
        "wrong/1/model.pb": b"x",
        "partly/2/model.onnx": b"x",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "bare" / "1" / ".keep").unlink()
    (folder / "gone.onnx").symlink_to(folder / "nowhere")
    graphs.times(folder / "partly" / "1" / "model.onnx", 2)
    for name in ("external", "lost", "cut"):
        graphs.external(folder / f"{name}.onnx")
    (folder / "lost.onnx.data").unlink()
    data = folder / "cut.onnx.data"
    data.write_bytes(data.read_bytes()[:100])
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "twin").mkdir()
    (other / "twin" / "model.onnx").write_bytes(whole)
    return [folder, other]


@pytest.fixture(scope="module")
def index(broken: list[Path], profiles: Path) -> dict[str, dict[str, Any]]:
    """What one server that serves them says of each, by name and version."""
    with run_server(broken, profile_dir=profiles) as server, Wire(server.host, server.port) as wire:
        assert wire.get("/v2/health/ready").status == 200
        good = wire.infer("good", ROW)
        assert good.status == 200
        assert wire.infer("external", ROW).json()["outputs"] == good.json()["outputs"]
        found = {
            f"{each['name']}/{each['version']}": each for each in wire.post("/v2/repository/index").json()
        }
        for name, each in found.items():
            path = f"/v2/models/{name.replace('/', '/versions/')}"
            each["ready"] = wire.get(f"{path}/ready").status
            each["answer"] = wire.post(f"{path}/infer", ROW)
            each["metadata"] = wire.get(path)
        found["partly"] = {"answer": wire.infer("partly", {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]})}
    return found


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("half/1", ["half.onnx", "copied only in part"]),
        ("noise/1", ["noise.onnx"]),
        ("empty/1", ["empty.onnx"]),
        ("text/1", ["text.onnx"]),
        ("lost/1", ["lost.onnx"]),
        ("cut/1", ["cut.onnx"]),
        ("gone/1", ["gone.onnx", "cannot be read"]),
        ("bare/1", ["no model.onnx in", "it is empty"]),
        ("wrong/1", ["no model.onnx in", "model.pb"]),
        ("partly/2", ["partly/2/model.onnx"]),
        ("refusing/1", ["told to"]),
        ("crashing/1", ["crashed while loading (SIGSEGV)"]),
        ("twin/1", ["model 'twin' appears in two or more repositories", "rename one"]),
    ],
)
def test_the_index_says_why(index: dict[str, dict[str, Any]], name: str, texts: list[str]) -> None:
    entry = index[name]
    assert entry["state"] == "UNAVAILABLE"
    for text in texts:
        assert text in entry["reason"]


def test_each_is_unready_and_answers_so(index: dict[str, dict[str, Any]]) -> None:
    for name, entry in index.items():
        if entry.get("state") != "UNAVAILABLE":
            continue
        assert entry["ready"] == 503, name
        assert entry["answer"].status == 503, name
        assert "is not at ready state" in entry["answer"].error
        assert entry["reason"] in entry["answer"].error
        assert entry["answer"].headers["retry-after"] == "1"
        assert entry["metadata"].status == 503


def test_a_version_that_loads_serves_for_one_that_does_not(index: dict[str, dict[str, Any]]) -> None:
    answer = index["partly"]["answer"]
    assert answer.status == 200
    assert answer.json()["model_version"] == "1"


def test_what_is_not_there_or_has_no_models_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there"), run_server([tmp_path / "nowhere"]):
        pass
    with pytest.raises(ConfigurationError, match="no models in"), run_server([tmp_path]):
        pass
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigurationError, match="no models in"), run_server([tmp_path]):
        pass


def test_a_port_that_is_taken_is_said_so(tmp_path: Path, profiles: Path) -> None:
    graphs.mlp(tmp_path / "mlp.onnx")
    with run_server([tmp_path], profile_dir=profiles) as server:
        second = subprocess.run(
            [sys.executable, "-m", "headrace", "serve", str(tmp_path), "--http-port", str(server.port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_second_start_knows_what_the_first_one_measured(tmp_path: Path, profiles: Path) -> None:
    graphs.mlp(tmp_path / "mlp.onnx", seed=99)
    known = set(profiles.glob("*.json"))
    answers = []
    for _ in range(2):
        with run_server([tmp_path], profile_dir=profiles) as server, Wire(server.host, server.port) as wire:
            answers.append((wire.infer("mlp", ROW).raw, wire.get("/v2/models/mlp/config").json()))
    assert answers[0] == answers[1]
    assert len(set(profiles.glob("*.json")) - known) == 1


def test_there_may_be_more_instances_than_one_message_has_descriptors_for(
    tmp_path: Path, profiles: Path
) -> None:
    graphs.mlp(tmp_path / "mlp.onnx")
    with run_server([tmp_path], profile_dir=profiles, instances=80) as server:
        assert server.server.catalog.versions("mlp")[0].snapshot().instances == 80
        with Wire(server.host, server.port) as wire:
            assert wire.infer("mlp", ROW).status == 200


def test_a_damaged_profile_is_measured_anew(tmp_path: Path) -> None:
    graphs.mlp(tmp_path / "mlp.onnx")
    folder = tmp_path / "profiles"
    for content in (None, b"", b"{", b'{"spec":1}'):
        for profile in folder.glob("*.json"):
            profile.write_bytes(content or b"")
        with run_server([tmp_path / "mlp.onnx"], profile_dir=folder) as server:
            assert server.server.catalog.versions("mlp")[0].snapshot().spec.joins_requests


def test_a_folder_that_cannot_keep_profiles_changes_nothing(tmp_path: Path) -> None:
    graphs.mlp(tmp_path / "mlp.onnx")
    (tmp_path / "file").write_text("")
    with run_server([tmp_path / "mlp.onnx"], profile_dir=tmp_path / "file" / "x") as server:
        assert server.server.catalog.versions("mlp")[0].snapshot().spec.joins_requests


def test_a_version_that_was_never_ready_is_not_ready_while_it_is_started_again(
    tmp_path: Path, profiles: Path
) -> None:
    (tmp_path / "dying.fake").write_text('{"load_dies": true}')
    with run_server([tmp_path], profile_dir=profiles, wait_ready=False) as server:
        version = server.server.catalog.versions("dying")[0]
        statuses = set()
        with Wire(server.host, server.port) as wire:
            while not version.is_settled:
                body = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}
                statuses |= {wire.infer("dying", body).status, wire.get("/v2/models/dying").status}
            statuses.add(wire.infer("dying", body).status)
    assert statuses == {503}


def test_a_server_that_says_it_has_started_takes_connections(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs.mlp(tmp_path / "good.onnx")
    startup = uvicorn.Server.startup

    async def late(self: uvicorn.Server, sockets: Any = None) -> None:
        await asyncio.sleep(0.3)
        await startup(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "startup", late)
    with (
        run_server([tmp_path], profile_dir=profiles, wait_ready=False) as server,
        Wire(server.host, server.port) as wire,
    ):
        assert wire.get("/v2/health/live").status == 200


def test_the_gateway_goes_before_its_workers_where_both_want_a_core(tmp_path: Path, profiles: Path) -> None:
    graphs.mlp(tmp_path / "good.onnx")
    with serving([tmp_path], profiles) as process:
        (worker,) = (
            pid
            for pid in children(process.pid)
            if b"headrace: worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        assert os.getpriority(os.PRIO_PROCESS, worker) > os.getpriority(os.PRIO_PROCESS, process.pid)
