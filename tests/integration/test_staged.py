"""Skills with photos and code of their own: before, model, after, each in a worker of its own."""

import io
import json
import os
import re
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from headrace.lifecycle.state import VersionState
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import children, eventually
from tests.integration.wire import Answer, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

CODE = """
import os, time
from headrace import InvalidItem

class Transform:
    def before(self, item):
        if item["text"] == "hang":
            time.sleep(60)
        if item["text"] == "die":
            os._exit(3)
        if item["text"] == "throw":
            raise KeyError("lost")
        if item["text"] == "misshaped":
            return {"x": [1, 2, 3]}
        if item["text"] == "bad":
            raise InvalidItem("no bad words")
        if item["text"] == "slow":
            time.sleep(0.05)
        return {"x": [len(item["text"]), item["more"], 2, 3]}

    def after(self, outputs):
        return {"total": float(outputs["y"].sum())}
"""
YAML = """
format: 1
inputs:
  text: {value: text}
  more: {value: number}
variants:
  only: {model: twice.onnx}
transform: {timeout_ms: 300}
"""
PHOTO = """
inputs:
  photo: {image: {size: [2, 2], resize: stretch, layout: NHWC, filter: nearest}, to: pixels}
outputs:
  sum: {}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged")
    (folder / "coded").mkdir()
    (folder / "coded" / "transform.py").write_text(CODE)
    (folder / "coded" / "skill.yaml").write_text(YAML)
    graphs.doubled(folder / "coded" / "twice.onnx")
    (folder / "photo").mkdir()
    (folder / "photo" / "skill.yaml").write_text(PHOTO)
    graphs.pixel_sum(folder / "photo" / "model.onnx")
    (folder / "plain.fake").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([folder], profile_dir=profiles) as running:
        assert {each.source.name: each.state.value for each in running.server.catalog} == {
            "coded": "READY",
            "photo": "READY",
            "plain": "READY",
        }
        yield running


def ask(server: RunningServer, text: str, more: float = 1, *, name: str = "coded") -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer(
            name, {"inputs": [tensor("text", "BYTES", [1], [text]), tensor("more", "FP64", [1], [more])]}
        )


def answer_of(answer: Answer) -> object:
    assert answer.status == 200, answer.body
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"]) == ("answer", "BYTES")
    return [json.loads(each) for each in output["data"]]


def test_code_before_and_after_a_model_makes_one_answer(server: RunningServer):
    assert answer_of(ask(server, "four", 7)) == [{"total": 2 * (4 + 7 + 2 + 3)}]


def test_a_request_of_several_items(server: RunningServer):
    with Wire(server.host, server.port) as wire:
        answer = wire.infer(
            "coded",
            {
                "inputs": [
                    tensor("text", "BYTES", [3], ["a", "bb", ""]),
                    tensor("more", "FP64", [3], [0, 1, 2]),
                ]
            },
        )
    assert answer_of(answer) == [{"total": 12}, {"total": 16}, {"total": 14}]


def test_metadata_shows_what_callers_send_and_get(server: RunningServer):
    with Wire(server.host, server.port) as wire:
        shown = wire.get("/v2/models/coded").json()
    assert shown["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "more", "datatype": "FP64", "shape": [-1]},
    ]
    assert shown["outputs"] == [{"name": "answer", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("throw", 500, ("before failed", "transform.py, line 12", "KeyError", "lost")),
        ("bad", 422, ("no bad words",)),
        ("misshaped", 500, ("what the skill's transform gives does not fit its model", "'x'")),
    ],
)
def test_an_item_that_throws_costs_only_itself(server: RunningServer, text, status, words):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(server, each), ["a", text, "b", "c", text, "d"]))
    assert [each.status for each in answers] == [200, status, 200, 200, status, 200]
    for word in words:
        assert word in answers[1].error


def test_what_fails_before_the_model_is_counted_as_the_skills(server: RunningServer):
    def refused() -> float:
        with Wire(server.host, server.port) as wire:
            text = wire.get("/metrics").body.decode()
        found = re.search(
            r'^inference_requests_total\{outcome="invalid_item",skill="coded",version="1"\} (\S+)',
            text,
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0

    before = refused()
    assert ask(server, "bad").status == 422
    assert refused() == before + 1


@pytest.mark.parametrize("text", ["hang", "die"])
def test_an_item_that_hangs_or_kills_its_worker_costs_only_itself(server: RunningServer, text):
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(ask, server, each) for each in ["a", text, "b", "c", "d"]]
        plain = pool.submit(ask_plain, server)
        assert plain.result().status == 200
        statuses = [each.result().status for each in asked]
    assert statuses == [200, 500, 200, 200, 200]
    assert answer_of(ask(server, "four", 7)) == [{"total": 32}]


def test_the_time_limit_is_an_items_and_not_that_of_all_that_share_its_run(server: RunningServer):
    version = server.server.catalog.find("coded", None)
    deaths = version.transforms.snapshot().deaths
    with Wire(server.host, server.port) as wire:
        answer = wire.post("/v1/skills/coded", {"items": [{"text": "slow", "more": 1}] * 20})
    assert answer.json()["answers"] == [{"total": 20.0}] * 20
    assert version.transforms.snapshot().deaths == deaths


def ask_plain(server: RunningServer) -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer("plain", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]})


def photo(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 6), color).save(file, "PNG")
    return file.getvalue()


def ask_photos(server: RunningServer, files: list[bytes]) -> Answer:
    data = b"".join(struct.pack("<I", len(each)) + each for each in files)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "photo",
                    "datatype": "BYTES",
                    "shape": [len(files)],
                    "parameters": {"binary_data_size": len(data)},
                }
            ]
        }
    ).encode()
    with Wire(server.host, server.port) as wire:
        return wire.infer("photo", head + data, {"Inference-Header-Content-Length": str(len(head))})


def test_photos_are_decoded_in_front_of_the_model(server: RunningServer):
    answer = ask_photos(server, [photo((1, 2, 3)), photo((0, 0, 5))])
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [24, 20]


def test_what_is_no_photo_is_refused_by_name(server: RunningServer):
    answer = ask_photos(server, [b"no photo"])
    assert answer.status in {400, 422}
    assert "photo" in answer.error


def test_a_client_that_goes_away_leaves_nothing_waiting(server: RunningServer):
    version = server.server.catalog.versions("coded")[0]
    inputs = [tensor("text", "BYTES", [1], ["hang"]), tensor("more", "FP64", [1], [1])]
    with Wire(server.host, server.port) as wire:
        wire.send(message("POST", "/v2/models/coded/infer", dumps({"inputs": inputs})))
    eventually(
        lambda: (
            not version.transforms.pipeline.snapshot().waiting
            and not version.transforms.pipeline.snapshot().running
        ),
        "the transform is ended and what waited is forgotten",
    )


def test_no_process_is_left(folder: Path, profiles: Path):
    with run_server([folder / "coded"], profile_dir=profiles) as running:
        assert answer_of(ask(running, "a", 1)) == [{"total": 14}]
        version = running.server.catalog.find("coded", None)
        pids = {*version.snapshot().pids, *version.transforms.snapshot().pids}
        assert pids <= set(children(os.getpid()))
    assert not pids & set(children(os.getpid()))


@pytest.mark.parametrize(("then", "tries"), [("time.sleep(60)", 1), ("os._exit(3)", 2)])
def test_what_own_code_starts_ends_with_its_process(tmp_path: Path, profiles: Path, then: str, tries: int):
    skill, started = tmp_path / "starter", tmp_path / "started"
    skill.mkdir()
    (skill / "skill.yaml").write_text("inputs: {text: {value: text}}\ntransform: {timeout_ms: 300}\n")
    (skill / "transform.py").write_text(
        "import os, subprocess, time\n\nclass Transform:\n    def before(self, item):\n"
        "        child = subprocess.Popen(['sleep', '600'])\n"
        f"        with open({str(started)!r}, 'a') as file:\n            print(child.pid, file=file)\n"
        f"        {then}\n"
    )
    graphs.doubled(skill / "model.onnx")
    with run_server([skill], profile_dir=profiles) as running, Wire(running.host, running.port) as wire:
        assert wire.post("/v1/skills/starter", {"text": "a"}).status == 500
        pids = [int(pid) for pid in started.read_text().split()]
        assert len(pids) == tries
        eventually(lambda: not any(map(is_running, pids)), "what it started is ended")


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and nobody has waited for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_skill_whose_code_cannot_be_loaded_says_where(tmp_path: Path, profiles: Path):
    skill = tmp_path / "broken"
    skill.mkdir()
    (skill / "skill.yaml").write_text(YAML)
    (skill / "transform.py").write_text(
        "import nothing_there\n\nclass Transform:\n    def before(self, item):\n        return {}\n"
    )
    graphs.doubled(skill / "twice.onnx")
    with run_server([skill], profile_dir=profiles) as running:
        (version,) = running.server.catalog.versions("broken")
        assert version.state == "UNAVAILABLE"
        assert "transform.py, line 1" in version.reason
        assert "nothing_there" in version.reason
        assert ask(running, "a", name="broken").status == 503


def test_what_a_model_runs_when_it_dies_is_answered_though_its_transform_cannot_serve_any_more(
    tmp_path: Path, profiles: Path
):
    code = tmp_path / "stuck" / "transform.py"
    code.parent.mkdir()
    code.write_text(CODE)
    (tmp_path / "stuck" / "skill.yaml").write_text(YAML.replace("twice.onnx", "stuck.fake"))
    (tmp_path / "stuck" / "stuck.fake").write_text('{"slow_value": 4, "slow_seconds": 3600}')
    asked = {"inputs": [tensor("text", "BYTES", [1], ["four"]), tensor("more", "FP64", [1], [1])]}
    with run_server([tmp_path], profile_dir=profiles, watch=False) as running:
        version = running.server.catalog.find("stuck", None)
        assert version.transforms is not None
        with Wire(running.host, running.port) as wire:
            wire.send(message("POST", "/v2/models/stuck/infer", dumps(asked)))
            eventually(lambda: version.pipeline.snapshot().running, "the model runs it")
            code.write_text(CODE + "# changed")
            for pid in version.transforms.snapshot().pids:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: version.state is VersionState.UNAVAILABLE, "its transform is refused")
            for pid in version.snapshot().pids:
                os.kill(pid, signal.SIGKILL)
            assert wire.receive().status == 503
