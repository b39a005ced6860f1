"""A server in a control group that is too small for a batch: the kernel ends the worker, and everybody is answered."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.groups import greedy, made_group
from tests.integration.process import ServerProcess, serving
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = [pytest.mark.integration, pytest.mark.load]

MIB = 1 << 20
LIMIT, A_ROW = 900 * MIB, 100 * MIB


@pytest.fixture
def group() -> Iterator[Path]:
    """A group with the limit, below the one that this process is in."""
    with made_group(LIMIT) as made:
        yield made.folder


def test_a_worker_that_the_kernel_ends_costs_nobody_an_answer(group: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy").mkdir()
    (tmp_path / "greedy" / "model.py").write_text(greedy(A_ROW, 32))
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
