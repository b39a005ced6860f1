"""A gateway that is killed under load leaves nothing behind, and the next one begins as if there had been none."""

import signal
import threading
from pathlib import Path

import pytest

from tests.integration.process import ServerProcess, children, eventually, is_running
from tests.integration.wire import Closed, tensor

pytestmark = pytest.mark.integration

CALLERS = 4


def test_the_next_gateway_serves_on_the_same_port_beside_nothing_of_the_old_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.fake").write_text('{"seconds": 0.01}')
    first = start(tmp_path)
    workers, answers = children(first.pid), [0] * CALLERS
    callers = [threading.Thread(target=call, args=(first, answers, at)) for at in range(CALLERS)]
    for caller in callers:
        caller.start()
    eventually(lambda: all(count > 3 for count in answers), "it is under load")
    first.signal(signal.SIGKILL)
    finish(first)
    for caller in callers:
        caller.join()
    assert min(answers) > 0, "nobody got somebody else's answer"
    eventually(lambda: not any(map(is_running, workers)), "its workers are gone")
    second = start(tmp_path, first.port)
    try:
        assert [infer(second, name, 5.0) for name in ("one", "two")] == [10.0, 10.0]
        assert len(children(second.pid)) == len(workers)
    finally:
        second.signal(signal.SIGKILL)
        finish(second)


def start(folder: Path, port: int | None = None) -> ServerProcess:
    chosen = [] if port is None else ["--http-port", str(port)]
    server = ServerProcess([folder], folder / "profiles", "--log-level", "error", "--instances", "1", *chosen)
    server.port = port or server.port
    server.wait_ready()
    return server


def finish(server: ServerProcess) -> None:
    assert server.wait_exit() == -signal.SIGKILL
    assert server.process.stderr is not None
    assert b"Traceback" not in server.process.stderr.read()
    server.process.stderr.close()


def call(server: ServerProcess, answers: list[int], at: int) -> None:
    """Again and again, until the server is gone; every answer is its own."""
    number = 1000.0 * (at + 1)
    try:
        while infer(server, ("one", "two")[at % 2], number) == 2 * number:
            answers[at] += 1
            number += 1
    except (Closed, ConnectionError):
        return
    answers[at] = -1


def infer(server: ServerProcess, model: str, number: float) -> float:
    with server.connect() as wire:
        answer = wire.infer(model, {"inputs": [tensor("x", "FP32", [1, 4], [number, 1, 2, 3])]})
    assert answer.status == 200, answer.body
    value: float = answer.json()["outputs"][0]["data"][0]
    return value
