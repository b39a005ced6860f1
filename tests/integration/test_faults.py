"""Workers that die or hang: the culprit gets an error, everybody else an answer, and the worker comes back."""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import (
    ServerProcess,
    children,
    descriptors,
    eventually,
    is_running,
    serving,
)
from tests.integration.wire import Answer, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

RESTARTS = 8
DEADLY, HANGING, RAISING = 66.0, 77.0, 88.0
FAKE = {
    "seconds": 0.02,
    "death_value": DEADLY,
    "hang_value": HANGING,
    "error_value": RAISING,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.fake").write_text(json.dumps(FAKE))
    (folder / "other.fake").write_text("{}")
    graphs.mlp(folder / "mlp.onnx")
    return folder


@pytest.fixture
def server(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    """One worker instance, so that who comes together travels together."""
    settings = {"instances": 1, "hang_floor_s": 0.5, "deadline_s": 30}
    with run_server([folder], profile_dir=profiles, **settings) as running:
        yield running


def request(value: float) -> bytes:
    return message("POST", "/v2/models/faulty/infer", dumps({"inputs": [row(value)]}))


def row(value: float) -> dict[str, object]:
    return tensor("x", "FP32", [1, 4], [value, 1, 2, 3])


def state_of(server: RunningServer, model: str = "faulty") -> str:
    return server.server.catalog.versions(model)[0].state


def pid_of(server: RunningServer, model: str = "faulty") -> int:
    pid = server.server.catalog.versions(model)[0].snapshot().pid
    assert pid is not None
    return pid


def deaths_of(server: RunningServer, model: str = "faulty") -> int:
    return server.server.catalog.versions(model)[0].snapshot().deaths


def together(server: RunningServer, values: list[float], gap_s: float = 0) -> list[Answer]:
    """Send one row each over a connection each, behind a run that keeps the instance busy; all their answers."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.host, server.port)) for _ in range(len(values) + 1)]
        for wire, value in zip(wires, [0.0, *values], strict=True):
            wire.send(request(value))
            time.sleep(gap_s)
        return [wire.receive() for wire in wires][1:]


def assert_answered(answer: Answer, value: float) -> None:
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [2 * value, 2, 4, 6]


def works(server: RunningServer, model: str = "other") -> bool:
    with Wire(server.host, server.port) as wire:
        return wire.infer(model, {"inputs": [row(1)]}).status == 200


def test_neighbours_of_a_row_that_raises_get_their_answers(server: RunningServer) -> None:
    values = [1.0, 2.0, RAISING, 3.0, 4.0]
    for value, answer in zip(values, together(server, values), strict=True):
        if value == RAISING:
            poisoned = "model 'faulty' fails on this request, and not on others: told to fail"
            assert (answer.status, answer.error) == (422, poisoned)
        else:
            assert_answered(answer, value)
    assert deaths_of(server) == 0


def test_neighbours_of_a_row_that_kills_the_worker_get_their_answers(server: RunningServer) -> None:
    values = [1.0, 2.0, DEADLY, 3.0, 4.0]
    for value, answer in zip(values, together(server, values), strict=True):
        if value == DEADLY:
            assert answer.status == 500
            assert answer.error == "the worker of model 'faulty' died while it ran this request, twice"
        else:
            assert_answered(answer, value)
    assert deaths_of(server) >= 2
    eventually(lambda: state_of(server) == "READY", "it is served again")
    assert_answered(together(server, [5.0])[0], 5.0)


@pytest.mark.parametrize("culprit", [DEADLY, HANGING])
def test_neighbours_that_came_after_the_culprit_get_their_answers_too(
    server: RunningServer, culprit: float
) -> None:
    # Tried alone it is the first to run, and the worker dies twice with no batch done in between.
    values = [culprit, 1.0, 2.0]
    answers = together(server, values, gap_s=0.004)
    assert answers[0].status == 500
    for value, answer in zip(values[1:], answers[1:], strict=True):
        assert_answered(answer, value)


def test_who_runs_beside_a_deadly_row_on_another_instance_gets_an_answer(
    folder: Path, profiles: Path
) -> None:
    with run_server([folder / "faulty.fake"], profile_dir=profiles, instances=3) as server:
        values = [1.0, 2.0, 3.0, DEADLY, 4.0, 5.0, 6.0]
        for value, answer in zip(values, together(server, values), strict=True):
            if value == DEADLY:
                assert answer.status == 500
            else:
                assert_answered(answer, value)


def test_a_row_that_hangs_is_ended_and_its_neighbours_get_their_answers(server: RunningServer) -> None:
    values = [1.0, HANGING, 2.0]
    for value, answer in zip(values, together(server, values), strict=True):
        if value == HANGING:
            assert answer.status == 500
        else:
            assert_answered(answer, value)
    eventually(lambda: state_of(server) == "READY", "it is served again")


def test_the_model_is_unready_meanwhile_and_the_server_and_other_models_are_not(
    folder: Path, profiles: Path, tmp_path: Path
) -> None:
    (tmp_path / "faulty.fake").write_text(json.dumps({"load_seconds": 0.5}))
    with run_server([tmp_path, folder / "other.fake"], profile_dir=profiles) as server:
        os.kill(pid_of(server), signal.SIGKILL)
        eventually(lambda: state_of(server) == "RESTARTING", "the death was noticed")
        with Wire(server.host, server.port) as wire:
            assert wire.get("/v2/models/faulty/ready").status == 503
            index = wire.post("/v2/repository/index").json()
            assert wire.get("/v2/health/ready").status == 200
            assert wire.get("/v2/models/other/ready").status == 200
            assert wire.infer("other", {"inputs": [row(1)]}).status == 200
            assert state_of(server) == "RESTARTING", "all that was while it was away"
            entry = next(each for each in index if each["name"] == "faulty")
            assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "its worker was killed by SIGKILL")
            assert {each["name"] for each in wire.post("/v2/repository/index", {"ready": True}).json()} == {
                "other"
            }
            # Who asks now waits for the next worker.
            assert_answered(wire.infer("faulty", {"inputs": [row(3)]}), 3)
            assert wire.get("/v2/models/faulty/ready").status == 200
            metrics = wire.get("/metrics").body.decode()
        assert re.search(r'^worker_deaths_total{skill="faulty",version="1"} 1', metrics, re.MULTILINE)


def test_strict_readiness_goes_with_the_model(profiles: Path, tmp_path: Path) -> None:
    (tmp_path / "faulty.fake").write_text(json.dumps({"load_seconds": 0.5}))
    with run_server([tmp_path], profile_dir=profiles, strict_readiness=True) as server:
        os.kill(pid_of(server), signal.SIGKILL)
        eventually(lambda: state_of(server) == "RESTARTING", "the death was noticed")
        with Wire(server.host, server.port) as wire:
            assert wire.get("/v2/health/ready").status == 503
            eventually(lambda: wire.get("/v2/health/ready").status == 200, "ready again")


def test_a_worker_killed_while_idle_is_replaced(server: RunningServer) -> None:
    before = pid_of(server, "mlp")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: deaths_of(server, "mlp") == 1, "the death was noticed")
    with Wire(server.host, server.port) as wire:
        x = tensor("x", "FP32", [1, graphs.FEATURES], [0.5] * graphs.FEATURES)
        assert wire.infer("mlp", {"inputs": [x]}).status == 200
    assert pid_of(server, "mlp") != before
    assert not is_running(before)


def test_a_worker_killed_under_load_costs_nobody_an_answer(server: RunningServer) -> None:
    """What it was given is tried once more; nobody hears of it."""
    pipeline = server.server.catalog.versions("faulty")[0].pipeline
    workers, each = 6, 30

    def client(at: int) -> list[tuple[float, Answer]]:
        with Wire(server.host, server.port) as wire:
            values = [float(1000 * at + step) for step in range(each)]
            return [(value, wire.infer("faulty", {"inputs": [row(value)]})) for value in values]

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(client, at) for at in range(workers)]
        for death in (1, 2):
            done = pipeline.batches_done
            eventually(lambda done=done: pipeline.batches_done > done, "it has run something")  # type: ignore[misc]
            os.kill(pid_of(server), signal.SIGKILL)
            eventually(lambda death=death: deaths_of(server) == death, "the death was noticed")  # type: ignore[misc]
        answers = [answer for future in futures for answer in future.result()]
    failed = [answer for _, answer in answers if answer.status != 200]
    # A request may have been with both workers when they died.
    assert all(answer.json()["code"] == "worker_lost" for answer in failed)
    assert len(failed) < len(answers) / 4
    for value, answer in answers:
        if answer.status == 200:
            assert_answered(answer, value)


def test_clients_that_leave_take_their_waiting_requests_along(server: RunningServer) -> None:
    pipeline = server.server.catalog.versions("faulty")[0].pipeline

    def dropped() -> float:
        with Wire(server.host, server.port) as wire:
            text = wire.get("/metrics").body.decode()
        found = re.search(
            r'^inference_requests_total{[^}]*outcome="dropped"[^}]*skill="faulty"[^}]*} (\S+)',
            text,
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0

    def runs() -> int:
        with Wire(server.host, server.port) as wire:
            count: int = wire.get("/v2/models/faulty/stats").json()["model_stats"][0]["inference_count"]
        return count

    before, ran = dropped(), runs()
    with Wire(server.host, server.port) as hanging:
        hanging.send(request(HANGING))
        eventually(lambda: pipeline.snapshot().running, "it runs")
        leaving = [Wire(server.host, server.port) for _ in range(100)]
        for wire in leaving:
            wire.send(request(1.0))
        eventually(lambda: pipeline.snapshot().waiting, "some wait")
        for wire in leaving:
            wire.close()
        eventually(lambda: not pipeline.snapshot().waiting, "nobody waits any more")
        assert hanging.receive().status == 500
    eventually(lambda: state_of(server) == "READY", "it is served again")
    assert works(server, "faulty")
    gone = dropped() - before
    assert gone > 0
    assert runs() - ran <= 101 - gone, "what was dropped was not run"


def test_many_restarts_leak_neither_descriptors_nor_processes(folder: Path, profiles: Path) -> None:
    with serving([folder / "other.fake"], profiles) as process, process.connect() as wire:

        def only_worker() -> int:
            (pid,) = children(process.pid)
            return pid

        assert wire.infer("other", {"inputs": [row(1)]}).status == 200
        before = descriptors(process.pid)
        for _ in range(RESTARTS):
            killed = only_worker()
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: killed not in children(process.pid), "the death was noticed")  # type: ignore[misc]
            assert wire.infer("other", {"inputs": [row(1)]}).status == 200
        only_worker()
        eventually(lambda: descriptors(process.pid) <= before, "all descriptors are closed")


@pytest.fixture
def process(folder: Path, profiles: Path) -> Iterator[ServerProcess]:
    with serving([folder], profiles) as running:
        yield running


def test_nothing_outlives_a_gateway_that_is_killed(process: ServerProcess) -> None:
    workers = children(process.pid)
    assert len(workers) >= 3
    process.signal(signal.SIGKILL)
    assert process.wait_exit() == -signal.SIGKILL
    eventually(lambda: not any(map(is_running, workers)), "its workers are gone")


def test_nothing_outlives_a_gateway_that_is_killed_while_it_loads(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "slow.fake").write_text('{"load_seconds": 60}')
    server = ServerProcess([tmp_path], profiles, "--log-level", "error")
    try:
        eventually(lambda: children(server.pid), "a worker was started")
        workers = children(server.pid)
    finally:
        server.process.kill()
    server.wait_exit()
    assert server.process.stderr is not None
    server.process.stderr.close()
    eventually(lambda: not any(map(is_running, workers)), "its workers are gone")


def test_a_model_whose_runs_all_take_longer_than_the_hang_floor_is_not_taken_for_hanging(tmp_path, profiles):
    (tmp_path / "slow.fake").write_text('{"seconds": 1.5}')
    with (
        run_server([tmp_path], profile_dir=profiles, hang_floor_s=0.5) as running,
        Wire(running.host, running.port) as wire,
    ):
        assert wire.infer("slow", {"inputs": [row(1)]}).status == 200
