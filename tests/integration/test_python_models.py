"""Models in Python: in processes of their own, errors by item, and one process's end costing nobody else anything."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.process import eventually, is_running
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

INSTANCES = 3
SLOW_DOUBLER = """
import os
import time

import numpy as np

from headrace import InvalidItem, PythonModel, Tensor


class Model(PythonModel):
    inputs = [Tensor("x", "FP32", [-1])]
    outputs = [Tensor("y", "FP32", [-1]), Tensor("pid", "INT64", [-1])]
    batched = True

    def infer(self, inputs):
        x = inputs["x"]
        print("this goes to standard error")
        if (x == 66).any():
            os.kill(os.getpid(), 9)
        if (x == 77).any():
            time.sleep(3600)
        time.sleep(0.005)
        outputs = {"y": 2 * x, "pid": np.full(len(x), os.getpid())}
        return outputs, {int(row): InvalidItem(f"{x[row]:g} is odd luck") for row in np.flatnonzero(x == 13)}
"""
SUMS = """
class Model:
    inputs = outputs = [("x", "FP32", [-1])]

    def infer(self, inputs):
        x = inputs["x"]
        return {"x": x + x.sum() if self.sums else 2 * x}
"""
FORKS = """
import os
import numpy as np

class Model:
    batched = True
    inputs = [("x", "FP32", [-1])]
    outputs = [("x", "FP32", [-1]), ("ended", "INT64", [-1])]

    def infer(self, inputs):
        x = inputs["x"].copy()
        child = os.fork()
        if not child:
            if x[0] < 0:
                raise ValueError("in the child")
            return {"x": -x, "ended": np.zeros(len(x), np.int64)}  # it should have called os._exit
        _, status = os.waitpid(child, 0)
        return {"x": x, "ended": np.full(len(x), os.waitstatus_to_exitcode(status))}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python")
    for name, source in {
        "slow/1": SLOW_DOUBLER,
        "rows": SUMS.replace("self.sums", "False"),
        "sums": SUMS.replace("self.sums", "True"),
        "forks": FORKS,
        "broken": "class Model:\n    inputs = 3 +\n",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "model.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([folder], profile_dir=profiles, instances=INSTANCES, hang_floor_s=0.5) as running:
        eventually(lambda: len(pids(running)) == INSTANCES, "all instances serve")
        yield running


def pids(server: RunningServer) -> tuple[int, ...]:
    snapshot = server.server.catalog.versions("slow")[0].snapshot()
    return snapshot.pids if snapshot.instances == len(snapshot.pids) else ()


def infer(server: RunningServer, *values: float, model: str = "slow") -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer(model, {"inputs": [tensor("x", "FP32", [len(values)], list(values))]})


def output(answer: Answer, at: int = 0) -> list[float]:
    assert answer.status == 200, answer.body
    data: list[float] = answer.json()["outputs"][at]["data"]
    return data


def state(server: RunningServer) -> str:
    return server.server.catalog.versions("slow")[0].snapshot().state


def test_a_version_folder_and_a_model_folder_with_a_model_py_are_served(server: RunningServer) -> None:
    assert output(infer(server, 1, 2)) == [2, 4]
    assert output(infer(server, 1, 2, model="rows")) == [2, 4]


def test_whether_rows_share_a_run_is_found_out_unless_the_class_says(server: RunningServer) -> None:
    specs = {
        name: server.server.catalog.versions(name)[0].snapshot().spec for name in ("slow", "rows", "sums")
    }
    assert {name: spec.joins_requests for name, spec in specs.items()} == {
        "slow": True,
        "rows": True,
        "sums": False,
    }
    assert specs["slow"].notes == ("its class says that it is batched",)
    assert any("rows change each other" in note for note in specs["sums"].notes)


def test_a_model_that_cannot_be_loaded_says_where(server: RunningServer) -> None:
    answer = infer(server, 1, model="broken")
    assert answer.status == 503
    assert "model.py:2: SyntaxError" in answer.error


def test_an_invalid_row_costs_its_own_request_only(server: RunningServer) -> None:
    values = [1.0, 13.0, 2.0, 3.0, 13.0, 4.0]
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(lambda value: infer(server, value), values))
    for value, answer in zip(values, answers, strict=True):
        if value == 13:
            assert (answer.status, answer.error) == (422, "13 is odd luck")
        else:
            assert output(answer) == [2 * value]


def test_every_process_takes_its_share(server: RunningServer) -> None:
    seen: set[float] = set()
    with ThreadPoolExecutor(12) as pool:
        for answer in pool.map(lambda value: infer(server, value), range(100, 250)):
            seen.update(output(answer, 1))
    assert seen == set(pids(server))


def test_a_process_killed_under_load_costs_nobody_an_answer_and_the_version_stays_ready(
    server: RunningServer,
) -> None:
    version, done = server.server.catalog.versions("slow")[0], threading.Event()
    deaths, states = version.snapshot().deaths, set()

    def client(at: int) -> list[tuple[float, Answer]]:
        answers, turn = [], 0
        with Wire(server.host, server.port) as wire:
            while not done.is_set():
                value = float(1000 * (at + 1) + turn)
                turn += 1
                x = tensor("x", "FP32", [1], [value])
                answers.append((value, wire.infer("slow", {"inputs": [x]})))
        return answers

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(client, at) for at in range(8)]
        for death in range(1, 4):
            (killed, *others) = pids(server)
            os.kill(killed, signal.SIGKILL)
            eventually(
                lambda death=death: version.snapshot().deaths == deaths + death,  # type: ignore[misc]
                "the death was noticed",
            )
            states.add(state(server))
            assert all(map(is_running, others)), "the others go on"
            eventually(lambda: len(pids(server)) == INSTANCES, "another one has taken its place")
        done.set()
        answers = [answer for future in futures for answer in future.result()]
    assert states == {"READY"}
    failed = [answer for _, answer in answers if answer.status != 200]
    # A request may have been with two of them when they died.
    assert all(answer.json()["code"] == "worker_lost" for answer in failed)
    assert len(failed) < len(answers) / 4
    for value, answer in answers:
        if answer.status == 200:
            assert output(answer) == [2 * value]


@pytest.mark.parametrize("culprit", [66.0, 77.0])
def test_a_row_that_ends_or_hangs_its_process_gets_the_error_and_nobody_else(
    server: RunningServer, culprit: float
) -> None:
    values = [1.0, 2.0, culprit, 3.0, 4.0, 5.0]
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(lambda value: infer(server, value), values))
    for value, answer in zip(values, answers, strict=True):
        if value == culprit:
            assert answer.status == 500
            assert answer.error == "the worker of model 'slow' died while it ran this request, twice"
        else:
            assert output(answer) == [2 * value]
    eventually(lambda: len(pids(server)) == INSTANCES, "all instances serve again")


@pytest.mark.parametrize("number", [1.0, -1.0])
def test_a_process_forked_in_a_run_that_comes_back_from_it_ends_and_answers_nobody(
    server: RunningServer, number: float
) -> None:
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("forks", {"inputs": [tensor("x", "FP32", [1], [number])]}).json()
    assert [each["data"] for each in answer["outputs"]] == [[number], [1]]


def test_all_processes_killed_at_once_come_back(server: RunningServer) -> None:
    version = server.server.catalog.versions("slow")[0]
    deaths = version.snapshot().deaths
    for pid in pids(server):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: version.snapshot().deaths == deaths + INSTANCES, "the deaths were noticed")
    eventually(lambda: state(server) == "READY" and len(pids(server)) == INSTANCES, "all serve again")
    assert output(infer(server, 5)) == [10]


def test_nothing_is_left_of_them_when_the_server_stops(folder: Path, profiles: Path) -> None:
    with run_server([folder / "slow"], profile_dir=profiles, instances=INSTANCES) as server:
        eventually(lambda: len(pids(server)) == INSTANCES, "all instances serve")
        processes = pids(server)
    eventually(lambda: not any(map(is_running, processes)), "all are gone")
