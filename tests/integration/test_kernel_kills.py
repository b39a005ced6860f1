"""A server in a control group that is too small for a batch: the kernel ends the worker, and everybody is answered."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.execution.machine_memory import groups_of
from tests.integration.process import ServerProcess, serving
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = [pytest.mark.integration, pytest.mark.load]

MIB = 1 << 20
LIMIT, A_ROW = 900 * MIB, 100 * MIB
GREEDY = f"""
import numpy as np

class Model:
    batched = True
    max_batch_size = 32
    inputs = [("x", "FP32", [-1, 1])]
    outputs = [("y", "FP32", [-1, 1])]

    def infer(self, inputs):
        taken = np.ones(len(inputs["x"]) * {A_ROW}, np.uint8)
        return {{"y": inputs["x"] * 2 * taken[0]}}
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A group with the limit, below the one that this process is in."""
    groups = groups_of(Path("/proc/self"))
    if not groups:
        pytest.skip("there are no control groups here")
    folder = groups[0].folder / f"headrace-test-{os.getpid()}"
    is_v1 = (groups[0].folder / "memory.limit_in_bytes").exists()
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc}")
    try:
        (folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(LIMIT))
    except OSError as exc:
        folder.rmdir()
        pytest.skip(f"no control group can be bounded here: {exc}")
    yield folder
    folder.rmdir()


def test_a_worker_that_the_kernel_ends_costs_nobody_an_answer(group: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy").mkdir()
    (tmp_path / "greedy" / "model.py").write_text(GREEDY)
    own, members = group.parent / "cgroup.procs", group / "cgroup.procs"
    members.write_text(str(os.getpid()))  # what is started now is in there from its first moment
    try:
        with serving([tmp_path], tmp_path / "profiles", "--deadline-s", "60") as server:
            own.write_text(str(os.getpid()))
            with ThreadPoolExecutor(24) as pool:
                heard = list(pool.map(lambda at: ask(server, at), range(24)))
            with server.connect() as wire:
                metrics = wire.get("/metrics").body.decode()
            assert server.process.poll() is None
    finally:
        own.write_text(str(os.getpid()))
    assert heard == [2.0 * at for at in range(24)]
    assert re.search(r"inference_out_of_memory_total\{.*\} [1-9]", metrics), metrics
    assert re.search(r"worker_deaths_total\{.*\} [1-9]", metrics), metrics


def ask(server: ServerProcess, value: int) -> float:
    request = message(
        "POST", "/v2/models/greedy/infer", dumps({"inputs": [tensor("x", "FP32", [1, 1], [float(value)])]})
    )
    with Wire(server.host, server.port) as wire:
        wire.send(request)
        answer = wire.receive()
    assert answer.status == 200, answer.body
    first: float = answer.json()["outputs"][0]["data"][0]
    return first
