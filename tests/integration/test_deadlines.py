"""What waited too long is answered, with the code its deadline's origin asks for, and is never run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

RUN_S = 0.2
PATH = "/v2/models/slow/infer"


@pytest.fixture(scope="module", params=["false", "true"], ids=["joined", "one by one"])
def slow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, profiles: Path
) -> Iterator[RunningServer]:
    """One instance whose every run takes a while: what is sent second has to wait, whether it may join or not."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow.fake").write_text(f'{{"seconds": {RUN_S}, "sums_rows": {request.param}}}')
    with run_server([folder], profile_dir=profiles, instances=1) as running:
        yield running


def row(value: float, **parameters: object) -> bytes:
    return dumps({"inputs": [tensor("x", "FP32", [1, 4], [value] * 4)], "parameters": parameters})


def behind_a_run(slow: RunningServer, request: bytes) -> Answer:
    """Send the request while the instance is busy."""
    with Wire(slow.host, slow.port) as ahead, Wire(slow.host, slow.port) as wire:
        ahead.send(message("POST", PATH, row(1)))
        eventually(lambda: slow.server.catalog.versions("slow")[0].pipeline.snapshot().running, "it runs")
        wire.send(request)
        answer = wire.receive()
        assert ahead.receive().status == 200
    return answer


def runs(slow: RunningServer) -> int:
    with Wire(slow.host, slow.port) as wire:
        count: int = wire.get("/v2/models/slow/stats").json()["model_stats"][0]["execution_count"]
    return count


def test_the_request_s_own_timeout_gives_503(slow: RunningServer) -> None:
    before = runs(slow)
    answer = behind_a_run(slow, message("POST", PATH, row(2, timeout=1000)))
    assert (answer.status, answer.error) == (503, "Request timeout expired")
    assert runs(slow) == before + 1, "only what was ahead of it was run"


@pytest.mark.parametrize(
    ("header", "value"), [("x-request-timeout-seconds", "0.001"), ("x-envoy-expected-rq-timeout-ms", "1")]
)
def test_a_deadline_in_a_header_gives_504(slow: RunningServer, header: str, value: str) -> None:
    before = runs(slow)
    answer = behind_a_run(slow, message("POST", PATH, row(2), {header: value}))
    assert answer.status == 504
    assert "deadline" in answer.error
    assert runs(slow) == before + 1


def test_the_earlier_of_both_counts(slow: RunningServer) -> None:
    request = message("POST", PATH, row(2, timeout=1000), {"x-request-timeout-seconds": "60"})
    assert behind_a_run(slow, request).status == 503
    request = message("POST", PATH, row(2, timeout=60_000_000), {"x-request-timeout-seconds": "0.001"})
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
    (tmp_path / "slow.fake").write_text(f'{{"seconds": {RUN_S}}}')
    with run_server([tmp_path], profile_dir=profiles, instances=1, deadline_s=0.01) as server:
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
