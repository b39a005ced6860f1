"""Runs that fail for want of memory, with real workers: everybody is answered, and the server goes on."""

import contextlib
import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from headrace.batching.latency import LatencyModel
from headrace.execution.limits import PROBE_SCORE, WORKER_SCORE, data_of, limit_data
from headrace.lifecycle.state import VersionState
from headrace.testing import RunningServer, run_server
from tests.integration.packages import model_file
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, binary, dumps, message, tensor

pytestmark = pytest.mark.integration

FAKE, REAL, BESIDE = "tight", "magika", "beside"
SETTINGS = {
    "instances": 1,
    "threads": 1,
    "deadline_s": 60.0,
    "hang_floor_s": 20.0,
    "watch": False,
    "measure_memory": False,
}
MOST_ROUNDS = 10
BYTES_A_FILE = 2048


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("switch") / "switch.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, switch: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tight")
    (folder / f"{FAKE}.fake").write_text(json.dumps({"switch": str(switch), "seconds": 0.02}))
    (folder / f"{BESIDE}.fake").write_text("{}")
    (folder / f"{REAL}.onnx").symlink_to(model_file(REAL))
    with run_server([folder], profile_dir=folder / "profiles", **SETTINGS) as running:
        yield running


@pytest.fixture
def short(switch: Path) -> Iterator[Path]:
    """Memory is short while the file says so; it is plenty again after the test."""
    yield switch
    switch.unlink(missing_ok=True)


def row(value: float) -> bytes:
    return message(
        "POST", f"/v2/models/{FAKE}/infer", dumps({"inputs": [tensor("x", "FP32", [1, 4], [value] * 4)]})
    )


def ask(server: RunningServer, request: bytes) -> Answer:
    with Wire(server.host, server.port) as wire:
        wire.send(request)
        return wire.receive()


def ask_all(server: RunningServer, requests: list[bytes]) -> list[Answer]:
    """Each over a connection of its own, at once."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: ask(server, request), requests))


def doubled(answer: Answer) -> float:
    assert answer.status == 200, answer.body
    first: float = answer.json()["outputs"][0]["data"][0]
    return first / 2


def pid_of(server: RunningServer, model: str = FAKE) -> int:
    pid = server.server.catalog.versions(model)[0].snapshot().pid
    assert pid is not None
    return pid


def steps(server: RunningServer, model: str = FAKE) -> dict[str, int]:
    """What was done how often, by the metrics."""
    with Wire(server.host, server.port) as wire:
        text = wire.get("/metrics").body.decode()
    found = re.findall(
        rf'^inference_out_of_memory_total{{skill="{model}",step="(\w+)",.*}} (\S+)$', text, re.MULTILINE
    )
    return {step: int(float(count)) for step, count in found}


def done_since(before: dict[str, int], server: RunningServer, model: str = FAKE) -> set[str]:
    return {step for step, count in steps(server, model).items() if count > before.get(step, 0)}


def test_a_batch_that_does_not_fit_is_split_and_everybody_gets_the_own_answer(server, short):
    before, pid = steps(server), pid_of(server)
    short.write_text(json.dumps({"fault": "memory", "most_rows": 2}))
    answers = ask_all(server, [row(at) for at in range(24)])
    assert [doubled(each) for each in answers] == list(range(24))
    assert "split" in done_since(before, server)
    assert pid_of(server) == pid


def test_a_session_that_has_gone_bad_is_opened_anew_in_the_same_process(server, short):
    before, pid = steps(server), pid_of(server)
    short.write_text(json.dumps({"fault": "memory", "loads": loads_of(server) + 1}))
    assert doubled(ask(server, row(7))) == 7
    assert "rebuild" in done_since(before, server)
    assert pid_of(server) == pid


def loads_of(server: RunningServer) -> int:
    """How often the worker has loaded the model: once, and once a rebuild."""
    return 1 + steps(server).get("rebuild", 0)


def test_where_that_does_not_help_another_worker_takes_over_and_where_nothing_does_the_caller_hears_why(
    server, short
):
    before, pid = steps(server), pid_of(server)
    short.write_text(json.dumps({"fault": "memory", "golden_too": False, "pid": pid}))
    assert doubled(ask(server, row(8))) == 8
    assert "restart" in done_since(before, server)
    assert pid_of(server) != pid
    short.write_text(json.dumps({"fault": "memory", "golden_too": False}))
    answer = ask(server, row(9))
    assert (answer.status, answer.json()["code"]) == (503, "out_of_memory")
    assert "told to have no memory" in answer.error
    assert int(answer.headers["retry-after"]) >= 1
    short.unlink()
    assert doubled(ask(server, row(10))) == 10


def test_the_models_beside_it_notice_nothing(server, short):
    pid = pid_of(server, BESIDE)
    short.write_text(json.dumps({"fault": "memory"}))
    ask(server, row(1))
    with Wire(server.host, server.port) as wire:
        answer = wire.infer(BESIDE, {"inputs": [tensor("x", "FP32", [1, 4], [3] * 4)]})
    assert answer.status == 200
    assert pid_of(server, BESIDE) == pid


def files(count: int) -> list[bytes]:
    made = []
    for seed in range(count):
        data = np.random.default_rng(seed).integers(0, 256, (1, BYTES_A_FILE)).astype("<i4")
        body, headers = binary([("bytes", "INT32", [1, BYTES_A_FILE], data.tobytes())])
        made.append(message("POST", f"/v2/models/{REAL}/infer", body, headers))
    return made


@contextlib.contextmanager
def limited(pid: int, more: int) -> Iterator[None]:
    """The process gets so many bytes more, and then no more."""
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    assert limit_data(pid, data_of(pid) + more)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # another worker may have taken over
            resource.prlimit(pid, resource.RLIMIT_DATA, before)


def test_a_real_model_in_too_little_address_space_answers_all_that_come_at_once(server):
    requests, version = files(32), server.server.catalog.versions(REAL)[0]
    # A worker that has run large batches has the memory for them.
    before_pid, before = pid_of(server, REAL), steps(server, REAL)
    os.kill(before_pid, signal.SIGKILL)
    eventually(lambda: version.snapshot().pid not in {None, before_pid}, "another worker was started")
    eventually(lambda: version.state is VersionState.READY, "it serves")
    tight: list[Answer] = []
    for _ in range(MOST_ROUNDS):
        # However it was measured, large batches seem worth it; how large they become is for who comes first to say.
        version.pipeline.latency = LatencyModel({BYTES_A_FILE: {1: 0.1, 32: 0.1}})
        with limited(pid_of(server, REAL), 48 << 20):
            tight = ask_all(server, requests)
        assert {each.status for each in tight} == {200}
        if done_since(before, server, REAL):
            break
    plenty = ask_all(server, requests)
    assert [label(each) for each in tight] == [label(each) for each in plenty]
    assert done_since(before, server, REAL)


def label(answer: Answer) -> int:
    return int(np.argmax(answer.json()["outputs"][0]["data"]))


def test_the_kernel_ends_workers_before_the_server(server):
    score = int(Path(f"/proc/{pid_of(server)}/oom_score_adj").read_text())
    assert score == WORKER_SCORE < PROBE_SCORE
    assert int(Path(f"/proc/{os.getpid()}/oom_score_adj").read_text()) < score


def test_what_cannot_be_loaded_for_want_of_memory_is_tried_again_and_says_so(tmp_path):
    (tmp_path / "late.fake").write_text(json.dumps({"load_needs": str(tmp_path / "plenty")}))
    with run_server([tmp_path], wait_ready=False, profile_dir=tmp_path / "profiles", **SETTINGS) as running:
        version = running.server.catalog
        eventually(lambda: "too little memory to load" in next(iter(version)).reason, "it says why")
        (tmp_path / "plenty").touch()
        eventually(lambda: next(iter(version)).was_ready, "it is there")
