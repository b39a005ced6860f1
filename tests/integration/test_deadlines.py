"""What waited too long is answered, with the code its deadline's origin asks for, and is never run.

What would wait too long is not taken in at all; so here a run takes longer than any before it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

RUN_S = 0.2
SLOW, SLOW_S = 1, 0.5
QUICK_RUNS = 20
"""More than are remembered: what the next run will take is told from these."""
PATH = "/v2/models/slow/infer"


@pytest.fixture(scope="module", params=["false", "true"], ids=["joined", "one by one"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, profiles: Path
) -> Iterator[RunningServer]:
    """One instance whose runs are quick but for some: what is sent second has to wait, whether it may join or not."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow.fake").write_text(
        f'{{"slow_value": {SLOW}, "slow_seconds": {SLOW_S}, "sums_rows": {request.param}}}'
    )
    with run_server([folder], profile_dir=profiles, instances=1) as running:
        yield running


@pytest.fixture
def slow(server: RunningServer) -> RunningServer:
    """The server, sure that its next run will be quick."""
    with Wire(server.host, server.port) as wire:
        for _ in range(QUICK_RUNS):
            assert wire.post(PATH, row(0)).status == 200
    return server


def row(value: float, **parameters: object) -> bytes:
    return dumps({"inputs": [tensor("x", "FP32", [1, 4], [value] * 4)], "parameters": parameters})


def behind_a_run(slow: RunningServer, request: bytes) -> Answer:
    """Send the request while the instance is busy, and has its next run at hand already."""
    pipeline = slow.server.catalog.versions("slow")[0].pipeline
    with (
        Wire(slow.host, slow.port) as ahead,
        Wire(slow.host, slow.port) as following,
        Wire(slow.host, slow.port) as wire,
    ):
        ahead.send(message("POST", PATH, row(SLOW)))
        eventually(lambda: pipeline.snapshot().running, "it runs")
        following.send(message("POST", PATH, row(0)))
        eventually(lambda: pipeline.snapshot().running + pipeline.snapshot().waiting > 1, "the next is there")
        wire.send(request)
        answer = wire.receive()
        assert ahead.receive().status in {
            200,
            503,
        }  # a run far longer than usual is waited for until the deadline
        following.receive()
    return answer


def runs(slow: RunningServer) -> int:
    with Wire(slow.host, slow.port) as wire:
        count: int = wire.get("/v2/models/slow/stats").json()["model_stats"][0]["execution_count"]
    return count


def test_the_request_s_own_timeout_gives_503(slow: RunningServer) -> None:
    before = runs(slow)
    answer = behind_a_run(slow, message("POST", PATH, row(2, timeout=100_000)))
    assert (answer.status, answer.error) == (503, "Request timeout expired")
    assert runs(slow) == before + 2, "only what was ahead of it was run"


@pytest.mark.parametrize(
    ("header", "value"), [("x-request-timeout-seconds", "0.1"), ("x-envoy-expected-rq-timeout-ms", "100")]
)
def test_a_deadline_in_a_header_gives_504(slow: RunningServer, header: str, value: str) -> None:
    before = runs(slow)
    answer = behind_a_run(slow, message("POST", PATH, row(2), {header: value}))
    assert answer.status == 504
    assert "deadline" in answer.error
    assert runs(slow) == before + 2


def test_the_earlier_of_both_counts(slow: RunningServer) -> None:
    request = message("POST", PATH, row(2, timeout=100_000), {"x-request-timeout-seconds": "60"})
    assert behind_a_run(slow, request).status == 503
    request = message("POST", PATH, row(2, timeout=60_000_000), {"x-request-timeout-seconds": "0.1"})
    assert behind_a_run(slow, request).status == 504


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-request-timeout-seconds", "soon"),
        ("x-request-timeout-seconds", "-1"),
        ("x-request-timeout-seconds", "nan"),
        ("x-request-timeout-seconds", "inf"),
        ("x-envoy-expected-rq-timeout-ms", ""),
    ],
)
def test_an_unreadable_deadline_in_a_header_is_ignored(slow: RunningServer, header: str, value: str) -> None:
    assert behind_a_run(slow, message("POST", PATH, row(2), {header: value})).status == 200


@pytest.mark.parametrize("timeout", ["soon", -1, 1.5, True])
def test_an_unreadable_timeout_of_its_own_is_the_request_s_fault(
    slow: RunningServer, timeout: object
) -> None:
    with Wire(slow.host, slow.port) as wire:
        answer = wire.post(PATH, row(2, timeout=timeout))
    assert answer.status == 400
    assert answer.error.startswith("Unable to parse 'timeout'")


def test_a_request_without_a_deadline_gets_the_server_s(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "slow.fake").write_text(f'{{"slow_value": {SLOW}, "slow_seconds": 1.5}}')
    with run_server([tmp_path], profile_dir=profiles, instances=1, deadline_s=0.5) as server:
        answer = behind_a_run(server, message("POST", PATH, row(2)))
    assert (answer.status, answer.error) == (503, "Request timeout expired")


def test_a_full_queue_refuses_with_a_time_to_come_again(tmp_path: Path, profiles: Path) -> None:
    """Two rows may wait; of many that come at once, some run, some wait, and the rest is refused at once."""
    (tmp_path / "slow.fake").write_text(f'{{"seconds": {RUN_S}}}')
    with (
        run_server([tmp_path], profile_dir=profiles, instances=1, max_queue_bytes=40) as server,
        contextlib.ExitStack() as stack,
    ):
        wires = [stack.enter_context(Wire(server.host, server.port)) for _ in range(40)]
        for wire in wires:
            wire.send(message("POST", PATH, row(1)))
        answers = [wire.receive() for wire in wires]
    refused = [answer for answer in answers if answer.status != 200]
    assert 0 < len(refused) < len(wires)
    for answer in refused:
        assert answer.status == 503
        assert answer.error.startswith("Exceeds maximum queue size")
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [({"timeout": 50_000}, {}), ({}, {"x-request-timeout-seconds": "0.05"})],
    ids=["of its own", "of a header"],
)
def test_what_would_be_answered_too_late_is_refused_on_arrival(
    tmp_path: Path, profiles: Path, parameters: dict[str, int], headers: dict[str, str]
) -> None:
    (tmp_path / "slow.fake").write_text(f'{{"seconds": {RUN_S}}}')
    with run_server([tmp_path], profile_dir=profiles, instances=1) as server:
        with Wire(server.host, server.port) as wire:
            assert wire.post(PATH, row(SLOW)).status == 200
        answer = behind_a_run(server, message("POST", PATH, row(2, **parameters), headers))
    assert (answer.status, answer.json()["code"]) == (503, "deadline_infeasible")
    assert answer.headers["x-reject-reason"] == "deadline-infeasible"
    assert 1 <= answer.json()["retry_after_ms"] < 5000
