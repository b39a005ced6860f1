"""Several requests on one connection, of all kinds: each gets its own answer, in turn, whatever becomes of the others."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Closed, Wire, binary, dumps, message, tensor

pytestmark = pytest.mark.integration

ROW = [1.0, 2.0, 3.0, 4.0]
INFER = "/v2/models/{}/infer"
ASKED = dumps({"inputs": [tensor("x", "FP32", [1, 4], ROW)]})
SKILL = dumps({"x": ROW})
FIRST = {
    "a slow skill": message("POST", "/v1/skills/slow", SKILL),
    "a slow model": message("POST", INFER.format("slow"), ASKED),
    "metadata": message("GET", "/v2/models/swift"),
}
CUT_CHUNK = {"Transfer-Encoding": "chunked"}
REFUSED = {
    "a coding nobody speaks": (message("POST", INFER.format("swift"), b"", {"Content-Encoding": "br"}), 501),
    "a chunk that is none": (message("POST", INFER.format("swift"), b"zz\r\n", CUT_CHUNK), 400),
    "a chunk of a skill that is none": (message("POST", "/v1/skills/swift", b"zz\r\n", CUT_CHUNK), 400),
    "no HTTP": (b"\x00\x01\r\n\r\n", 400),
    "a model's body that does not come": (message("POST", INFER.format("swift"), ASKED)[:-1], 408),
    "a skill's body that does not come": (message("POST", "/v1/skills/swift", SKILL)[:-1], 408),
    "settings that do not come": (message("POST", "/v2/logging", b"{}")[:-1], 408),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("turns")
    graphs.ragged(folder / "ragged.onnx")
    (folder / "slow.fake").write_text('{"seconds": 0.1}')
    (folder / "swift.fake").write_text("{}")
    with run_server([folder], profile_dir=profiles, instances=1, receive_timeout_s=0.4) as running:
        yield running


@pytest.fixture
def wire(served: RunningServer) -> Iterator[Wire]:
    with Wire(served.host, served.port) as connection:
        yield connection


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_refused_is_told_so_and_the_connection_ends(wire: Wire, refused: str) -> None:
    sent, status = REFUSED[refused]
    wire.send(sent)
    answer = wire.receive()
    assert answer.status == status
    assert answer.error
    assert answer.headers["connection"] == "close"
    assert wire.is_ended()


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("first", FIRST)
def test_a_refusal_waits_for_the_answers_to_the_requests_before_it(
    wire: Wire, first: str, refused: str
) -> None:
    sent, status = REFUSED[refused]
    before = [FIRST[first], message("GET", "/v2/health/live"), message("POST", INFER.format("swift"), ASKED)]
    wire.send(b"".join([*before, sent]))
    assert [wire.receive().status for _ in before] == [200, 200, 200]
    answer = wire.receive()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert wire.is_ended()


def test_what_was_answered_before_its_body_came_gets_no_second_answer(wire: Wire) -> None:
    wire.send(message("GET", "/v2/health/live", headers={"Content-Length": "10"}))
    assert wire.receive().json() == {"live": True}
    with pytest.raises(Closed):
        wire.receive()


def test_requests_behind_an_answer_that_is_read_slowly_get_theirs(wire: Wire) -> None:
    """An answer larger than the kernel holds, so that the server has to wait for its reader."""
    numbers = np.random.default_rng(3).random(1_000_000, "f4")
    body, headers = binary([("x", "FP32", [1, len(numbers)], numbers.tobytes())])
    wire.send(
        message("POST", INFER.format("ragged"), body, headers)
        + message("GET", "/v2/health/live")
        + message("POST", "/v1/skills/swift", SKILL)
        + message("POST", INFER.format("swift"), ASKED)
    )
    large = wire.receive()
    assert (large.status, len(large.body) > 10_000_000) == (200, True)
    assert [wire.receive().status for _ in range(3)] == [200, 200, 200]
