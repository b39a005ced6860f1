"""More models than there is memory for: who is asked for comes in, nobody is lost, and memory is given back."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually, is_running
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

NAMES = [f"times{at}" for at in range(6)]
ROOM = 250 << 20
"""Of what is estimated for a small model nobody has measured, 72 MiB, it holds three."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for at, name in enumerate(NAMES):
        graphs.times(folder / f"{name}.onnx", at + 2.0)
    skill = folder / "never"
    graphs.times(skill / "large.onnx", 30.0)
    graphs.times(skill / "small.onnx", 3.0)
    (skill / "skill.yaml").write_text(
        "memory: {preload: false}\nvariants: {large: {model: large.onnx}, small: {model: small.onnx}}\n"
    )
    return folder


@pytest.fixture
def crowded(folder: Path, tmp_path: Path) -> Iterator[RunningServer]:
    settings = {"memory_budget": ROOM, "deadline_s": 60.0, "measure_memory": False}
    with run_server([folder], profile_dir=tmp_path, **settings) as running:
        yield running


@pytest.fixture
def wire(crowded: RunningServer) -> Iterator[Wire]:
    with Wire(crowded.host, crowded.port) as connection:
        yield connection


def ask(wire: Wire, name: str) -> float:
    """What the model makes of 1."""
    wire.send(request(name))
    answer = wire.receive()
    assert answer.status == 200, answer.raw
    return float(answer.json()["outputs"][0]["data"][0])


def request(name: str, headers: dict[str, str] | None = None) -> bytes:
    body = dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 1])]})
    return message("POST", f"/v2/models/{name}/infer", body, headers)


def there(running: RunningServer) -> list[str]:
    return [each.source.name for each in running.server.catalog if each.state is VersionState.READY]


def absent(running: RunningServer) -> list[str]:
    return [each.source.name for each in running.server.catalog if each.state is VersionState.ABSENT]


def loads(wire: Wire, name: str) -> float:
    """How often it was loaded."""
    lines = wire.get("/metrics").body.decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("inference_loads_total{") and f'skill="{name}"' in line
    )


def reserved(running: RunningServer) -> int:
    device = running.server.catalog.residency.view().devices[0]
    return device.resident + device.scratch


def test_what_does_not_fit_is_brought_in_by_its_first_request(crowded: RunningServer, wire: Wire) -> None:
    assert 1 <= len(there(crowded)) < len(NAMES)
    for at, name in enumerate(NAMES):
        assert ask(wire, name) == at + 2.0
    for at, name in reversed(list(enumerate(NAMES))):
        assert ask(wire, name) == at + 2.0
    assert reserved(crowded) <= ROOM


def test_who_is_not_in_memory_is_ready_to_be_asked_and_the_index_says_why(
    crowded: RunningServer, wire: Wire
) -> None:
    name = absent(crowded)[0]
    assert wire.get("/v2/health/ready").status == 200
    assert wire.get(f"/v2/models/{name}/ready").status == 200
    index = wire.request("POST", "/v2/repository/index", b"{}").json()
    entry = next(each for each in index if each["name"] == name)
    assert (entry["state"], entry["reason"]) == (
        "UNAVAILABLE",
        "not in memory: it is loaded when it is asked for",
    )


def test_all_who_wait_for_a_model_that_was_never_in_memory_are_answered_by_one_load(
    crowded: RunningServer, wire: Wire
) -> None:
    name = absent(crowded)[-1]
    factor = {**{each: at + 2.0 for at, each in enumerate(NAMES)}, "never": 30.0, "never.small": 3.0}[name]

    def one(_: int) -> float:
        with Wire(crowded.host, crowded.port) as own:
            return ask(own, name)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [factor] * 8
    assert loads(wire, name) == 1


@pytest.mark.parametrize(("query", "factor"), [("", 30.0), ("?variant=small", 3.0)])
def test_a_skill_that_is_not_to_be_preloaded_is_loaded_for_its_first_caller(
    crowded: RunningServer, wire: Wire, query: str, factor: float
) -> None:
    assert {"never", "never.small"} <= set(absent(crowded))
    answer = wire.request("POST", f"/v1/skills/never{query}", dumps({"x": [1, 2]}))
    assert answer.status == 200, answer.raw
    assert answer.json()["answer"]["y"] == [factor, 2 * factor]


def test_a_lower_version_in_memory_does_not_answer_for_a_higher_one_that_never_was(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        graphs.times(tmp_path / "models" / "times" / str(number) / "model.onnx", number)
    (tmp_path / "models" / "times" / "11").mkdir()
    (tmp_path / "models" / "times" / "11" / "model.onnx").write_bytes(b"no model")
    graphs.times(tmp_path / "models" / "another.onnx", 5.0)
    with (
        run_server(
            [tmp_path / "models"], profile_dir=tmp_path / "p", memory_budget=100 << 20, deadline_s=60.0
        ) as running,
        Wire(running.host, running.port) as wire,
    ):
        assert absent(running) == ["times"] * 4
        assert ask(wire, "times/versions/1") == 1.0
        assert ask(wire, "times") == 10.0, "11 was tried, and cannot be loaded"
        assert wire.get("/v2/models/times").json()["versions"] == ["1", "2", "10"]
        body = gzip.compress(dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 1])]}))
        assert ask(wire, "times/versions/1") == 1.0
        wire.send(message("POST", "/v2/models/times/infer", body, {"content-encoding": "gzip"}))
        assert wire.receive().json()["model_version"] == "10"


CHAIN = """
memory: {preload: false}
variants: {large: {model: large.onnx}, small: {model: small.onnx}}
fallback: {chain: [{variant: small}]}
"""


def lay_out_chain(skill: Path) -> None:
    graphs.times(skill / "large.onnx", 30.0)
    graphs.times(skill / "small.onnx", 3.0)
    (skill / "skill.yaml").write_text(CHAIN)


def test_a_skill_with_a_chain_comes_for_its_first_caller_where_nothing_of_it_is_in_memory(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    lay_out_chain(models / "whole")
    lay_out_chain(models / "broken")
    lay_out_chain(models / "named")
    (models / "broken" / "large.onnx").write_bytes(b"no model")
    with (
        run_server([models], profile_dir=tmp_path / "p", deadline_s=60.0) as running,
        Wire(running.host, running.port) as wire,
    ):
        assert len(absent(running)) == 6
        assert ask(wire, "whole") == 30.0
        assert ask(wire, "broken") == 3.0, "its first variant was tried, and cannot be loaded"
        answer = wire.request("POST", "/v1/skills/broken", dumps({"x": [1, 2]})).json()
        assert answer["answer"]["y"] == [3.0, 6.0]
        assert answer["degraded"]["by"] == "variant:small"
        named = wire.request("POST", "/v1/skills/named?variant=large", dumps({"x": [1, 2]})).json()
        assert named["answer"]["y"] == [30.0, 60.0]


def test_who_cannot_wait_is_told_how_long_it_takes_and_has_it_brought_in(
    crowded: RunningServer, wire: Wire
) -> None:
    ask(wire, NAMES[0])
    for name in NAMES[1:]:
        ask(wire, name)
    name = next(each for each in NAMES if each in absent(crowded))
    wire.send(request(name, {"x-request-timeout-seconds": "0.05"}))
    answer = wire.receive()
    assert (answer.status, answer.json()["code"]) == (503, "model_absent"), answer.raw
    assert int(answer.headers["retry-after"]) >= 1
    eventually(lambda: name in there(crowded), "it comes in all the same")


def test_a_caller_that_leaves_while_it_waits_leaves_nothing_behind(
    crowded: RunningServer, wire: Wire
) -> None:
    name = absent(crowded)[-1]
    with Wire(crowded.host, crowded.port) as impatient:
        impatient.send(request(name))
        eventually(lambda: name not in absent(crowded), "it is being loaded")
    eventually(lambda: not crowded.server.desk.lobby.is_waited_in, "nobody waits")
    eventually(lambda: not crowded.server.desk.received_bytes, "nothing is held")
    ask(wire, name)


def test_loading_by_name_brings_it_in_and_unloading_keeps_it_out(crowded: RunningServer, wire: Wire) -> None:
    name = absent(crowded)[-1]
    assert wire.request("POST", f"/v2/repository/models/{name}/load", b"{}").status == 200
    assert name in there(crowded)
    assert wire.request("POST", f"/v2/repository/models/{name}/unload", b"{}").status == 200
    wire.send(request(name))
    assert wire.receive().status in {400, 404}
    eventually(lambda: reserved(crowded) <= ROOM, "it holds nothing")


def test_who_is_loaded_by_name_and_left_again_at_once_was_loaded(
    crowded: RunningServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = absent(crowded)[-1]
    residency = crowded.server.catalog.residency
    changed = residency.changed

    def leave_again(version: ModelVersion) -> None:
        changed(version)
        stay = residency._stays[version]
        if version.source.name == last and version.state is VersionState.READY:
            asyncio.get_running_loop().call_soon(residency._send_away, stay, "another came in its place")

    monkeypatch.setattr(residency, "changed", leave_again)
    answer = wire.request("POST", f"/v2/repository/models/{last}/load", b"{}")
    assert answer.status == 200, answer.raw
    assert last in absent(crowded)


def test_strictly_ready_is_also_who_brings_a_model_in(tmp_path: Path) -> None:
    (tmp_path / "slow.fake").write_text('{"load_seconds": 600}')
    (tmp_path / "quick.fake").write_text("{}")
    with (
        run_server(
            [tmp_path],
            profile_dir=tmp_path / "p",
            memory_budget=100 << 20,
            strict_readiness=True,
            watch=False,
        ) as running,
        Wire(running.host, running.port) as wire,
        Wire(running.host, running.port) as other,
    ):
        assert absent(running) == ["slow"]
        body = dumps({"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]})
        other.send(message("POST", "/v2/models/slow/infer", body))
        slow = running.server.catalog.loaded("slow")[0]
        eventually(lambda: slow.state is VersionState.LOADING, "it is being loaded")
        assert wire.get("/v2/health/ready").status == 200


def test_an_absent_model_whose_file_changes_answers_by_the_new_one(tmp_path: Path) -> None:
    models, profiles = tmp_path / "models", tmp_path / "profiles"
    for at, name in enumerate(NAMES):
        graphs.times(models / f"{name}.onnx", at + 2.0)
    with (
        run_server(
            [models], profile_dir=profiles, memory_budget=ROOM, deadline_s=60.0, watch_s=0.1
        ) as running,
        Wire(running.host, running.port) as wire,
    ):
        name = absent(running)[0]
        graphs.times(models / f"{name}.onnx", 77.0)
        eventually(lambda: ask(wire, name) == 77.0, "the new file answers")


def test_under_load_everybody_gets_the_right_answer_and_memory_stays_within_its_budget(
    crowded: RunningServer,
) -> None:
    most = []

    def one(seed: int) -> list[tuple[float, float]]:
        with Wire(crowded.host, crowded.port) as own:
            chosen = [(seed * 7 + at * (1 + seed % 3)) % len(NAMES) for at in range(8)]
            answers = []
            for each in chosen:
                answers.append((ask(own, NAMES[each]), each + 2.0))
                most.append(reserved(crowded))
            return answers

    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(one, range(4)):
            assert all(got == expected for got, expected in answers)
    assert max(most) <= ROOM


def test_a_model_nobody_asks_for_leaves_after_its_idle_time(tmp_path: Path) -> None:
    graphs.times(tmp_path / "models" / "times.onnx", 2.0)
    with (
        run_server(
            [tmp_path / "models"], profile_dir=tmp_path / "p", idle_timeout_s=0.5, deadline_s=60.0
        ) as running,
        Wire(running.host, running.port) as wire,
    ):
        pid = running.server.catalog.find("times", None).snapshot().pid
        assert pid is not None
        eventually(lambda: absent(running) == ["times"], "it leaves")
        eventually(lambda: not is_running(pid), "its process ends")
        eventually(lambda: reserved(running) == 0, "it holds nothing")
        assert ask(wire, "times") == 2.0


def test_two_models_that_are_always_asked_for_take_turns_in_the_room_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / f"{name}.fake").write_text(f'{{"seconds": 0.02, "of": "{name}"}}')
    with run_server(
        [tmp_path / "models"], profile_dir=tmp_path / "p", memory_budget=100 << 20, deadline_s=60.0
    ) as running:
        both = threading.Barrier(4)
        answers: dict[str, int] = {"one": 0, "two": 0}

        def ask_on(name: str) -> None:
            body = dumps({"inputs": [tensor("x", "FP32", [1, 4], [1] * 4)]})
            both.wait()
            with Wire(running.host, running.port) as own:
                while min(answers.values()) < 2:
                    own.send(message("POST", f"/v2/models/{name}/infer", body))
                    assert own.receive().status == 200
                    answers[name] += 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask_on, ("one", "two") * 2))


def test_what_a_model_is_can_be_asked_before_it_was_ever_in_memory(
    crowded: RunningServer, wire: Wire
) -> None:
    name = absent(crowded)[-1]
    metadata = wire.get(f"/v2/models/{name}")
    assert metadata.status == 200, metadata.raw
    assert [each["name"] for each in metadata.json()["inputs"]] == ["x"]
    assert wire.get(f"/v2/models/{absent(crowded)[0]}/config").status == 200
