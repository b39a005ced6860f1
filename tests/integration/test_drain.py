"""Stopping: who is being served is served, who comes is told, and the process ends with status 0."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.process import ServerProcess, children, eventually, is_running, serving
from tests.integration.wire import Answer, Closed, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

RUN_S = 0.2
LONG_RUN_S = 1.5
"""Time to see that something waits, whatever else the machine does."""
LONG = "600"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.fake").write_text(f'{{"seconds": {RUN_S}, "hang_value": 77}}')
    return tmp_path


@pytest.fixture
def patient(folder: Path, profiles: Path) -> Iterator[ServerProcess]:
    """A server that goes on accepting for long after SIGTERM."""
    with serving([folder], profiles, "--drain-delay-s", LONG, "--instances", "1") as server:
        yield server


@pytest.fixture
def prompt(folder: Path, profiles: Path) -> Iterator[ServerProcess]:
    """A server that stops accepting at once."""
    with serving([folder], profiles, "--drain-delay-s", "0", "--instances", "1") as server:
        yield server


def request(value: float) -> bytes:
    body = dumps({"inputs": [tensor("x", "FP32", [1, 4], [value] * 4)]})
    return message("POST", "/v2/models/slow/infer", body)


def accepts(server: ServerProcess) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def is_queued(server: ServerProcess, wire: Wire) -> bool:
    """Whether requests wait, by the metrics on a connection that is open already."""
    text = wire.get("/metrics").body.decode()
    return 'inference_waiting_requests{skill="slow",version="1"} 0.0' not in text


def assert_answered(answer: Answer, value: float) -> None:
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [2 * value] * 4


def test_sigterm_takes_readiness_away_and_goes_on_serving_for_the_delay(patient: ServerProcess) -> None:
    with patient.connect() as wire:
        patient.signal(signal.SIGTERM)
        eventually(lambda: wire.get("/v2/health/ready").status == 503, "readiness is gone")
        assert wire.get("/v2/health/ready").json() == {"ready": False}
        assert wire.get("/v2/health/live").status == 200
        wire.send(request(1))
        assert_answered(wire.receive(), 1)
        with patient.connect() as late:
            late.send(request(2))
            assert_answered(late.receive(), 2)
    assert patient.process.poll() is None


def test_after_the_delay_what_is_in_flight_is_answered_and_nobody_else_connects(
    folder: Path, profiles: Path
) -> None:
    (folder / "slow.fake").write_text(f'{{"seconds": {LONG_RUN_S}}}')
    with (
        serving(
            [folder], profiles, "--drain-delay-s", "0", "--instances", "1", "--deadline-s", LONG
        ) as server,
        contextlib.ExitStack() as connections,
        server.connect() as watching,
    ):
        workers = children(server.pid)
        wires = [connections.enter_context(server.connect()) for _ in range(3)]
        for at, wire in enumerate(wires):
            wire.send(request(at))
        eventually(lambda: is_queued(server, watching), "some wait")
        server.signal(signal.SIGTERM)
        for at, wire in enumerate(wires):
            assert_answered(wire.receive(), at)
        assert server.wait_exit() == 0
        assert not accepts(server)
        assert not any(map(is_running, workers))


def test_idle_connections_do_not_hold_the_server_up(prompt: ServerProcess) -> None:
    with prompt.connect() as idle, prompt.connect() as used:
        assert used.get("/v2/health/live").status == 200
        prompt.signal(signal.SIGTERM)
        assert prompt.wait_exit() == 0
        assert idle.is_ended()
        assert used.is_ended()


@pytest.mark.parametrize("path", ["/v2/models/slow/infer", "/v1/skills/slow"])
def test_a_connection_ends_once_its_request_is_answered(folder: Path, profiles: Path, path: str) -> None:
    """Clients keep connections for their next request, and that is not for a server that leaves."""
    x = {"x": [1] * 4} if "skills" in path else {"inputs": [tensor("x", "FP32", [1, 4], [1] * 4)]}
    sent = message("POST", path, dumps(x))
    with (
        serving([folder], profiles, "--drain-delay-s", "0", "--exit-timeout-s", LONG) as server,
        server.connect() as wire,
        server.connect() as watching,
    ):
        wire.send(sent[:-1])
        assert watching.get("/v2/health/live").status == 200
        server.signal(signal.SIGTERM)
        eventually(lambda: not accepts(server), "it drains")
        wire.send(sent[-1:])
        answer = wire.receive()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.is_ended()
        assert server.wait_exit() == 0


def test_a_second_sigterm_stops_at_once(patient: ServerProcess) -> None:
    workers = children(patient.pid)
    with patient.connect() as wire:
        patient.signal(signal.SIGTERM)
        eventually(lambda: wire.get("/v2/health/ready").status == 503, "readiness is gone")
        patient.signal(signal.SIGTERM)
        assert patient.wait_exit() == 0
        assert wire.is_ended()
    assert not any(map(is_running, workers))


def test_a_second_sigterm_does_not_wait_for_a_run_that_hangs(folder: Path, profiles: Path) -> None:
    with serving([folder], profiles, "--drain-delay-s", "0", "--exit-timeout-s", LONG) as server:
        workers = children(server.pid)
        with server.connect() as wire, server.connect() as watching:
            wire.send(request(77))
            eventually(lambda: watching.get("/v2/health/ready").status == 200, "it has arrived")
            server.signal(signal.SIGTERM)
            eventually(lambda: not accepts(server), "it drains")
            assert server.process.poll() is None
            server.signal(signal.SIGTERM)
            assert server.wait_exit() == 0
            with pytest.raises(Closed):
                wire.receive()
        assert not any(map(is_running, workers))


def test_the_exit_timeout_ends_a_run_that_hangs(folder: Path, profiles: Path) -> None:
    with (
        serving([folder], profiles, "--drain-delay-s", "0", "--exit-timeout-s", "0.3") as server,
        server.connect() as wire,
        server.connect() as watching,
    ):
        wire.send(request(77))
        eventually(lambda: watching.get("/v2/health/ready").status == 200, "it has arrived")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0


def test_sigint_drains_without_the_delay(patient: ServerProcess) -> None:
    with patient.connect() as wire, patient.connect() as watching:
        wire.send(request(1))
        wire_two = patient.connect()
        wire_two.send(request(2))
        eventually(lambda: is_queued(patient, watching), "one waits")
        patient.signal(signal.SIGINT)
        assert_answered(wire.receive(), 1)
        assert_answered(wire_two.receive(), 2)
        wire_two.close()
        assert patient.wait_exit() == 0


def test_a_terminal_s_sigint_to_the_workers_is_left_to_the_gateway(prompt: ServerProcess) -> None:
    """A terminal sends it to the whole group, and the gateway is to drain first."""
    (worker,) = children(prompt.pid)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
    with prompt.connect() as wire:
        wire.send(request(1))
        assert_answered(wire.receive(), 1)
    assert children(prompt.pid) == [worker]


@pytest.mark.parametrize("is_heard", [True, False])
def test_whoever_waits_for_a_load_does_not_hold_the_server_up(
    prompt: ServerProcess, folder: Path, is_heard: bool
) -> None:
    (folder / "stuck.fake").write_text('{"load_seconds": 600}')
    with prompt.connect() as wire, prompt.connect() as other:
        wire.send(message("POST", "/v2/repository/models/stuck/load"))
        eventually(lambda: b"stuck" in other.post("/v2/repository/index").body, "it is being loaded")
        if not is_heard:
            wire.close()
        prompt.signal(signal.SIGTERM)
        if is_heard:
            assert wire.receive().status == 503
    assert prompt.wait_exit() == 0


def test_a_server_that_is_stopped_while_it_loads_ends(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "slow.fake").write_text('{"load_seconds": 600}')
    server = ServerProcess([tmp_path], profiles, "--log-level", "error", "--drain-delay-s", "0")
    try:
        eventually(lambda: children(server.pid), "a worker was started")
        eventually(lambda: accepts(server), "it listens")
        with server.connect() as wire:
            assert wire.get("/v2/health/live").status == 200
            assert wire.get("/v2/health/ready").status == 503
            assert wire.get("/v2/models/slow/ready").status == 503
            wire.send(request(1))
            assert wire.receive().error == "Request for unknown model: 'slow' version 1 is not at ready state"
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()
