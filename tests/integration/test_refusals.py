"""What too much is waiting for is refused at once: by its envelope, whichever way it came, with when to come again."""

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from headrace.admission.forecast import Arrival
from headrace.errors import DeadlineInfeasible, HeadraceError
from headrace.frontends.responses import ErrorWriter
from headrace.pipeline import Pipeline
from headrace.testing import RunningServer, run_server
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, binary, dumps, tensor

pytestmark = pytest.mark.integration

PATH = "/v2/models/swift/infer"
SKILL = "/v1/skills/swift"
ROW = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}
NO_DATA = {"inputs": [tensor("x", "FP32", [3, 4], ["no", {"number": "at all"}])]}
LARGE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[%b1,2,3,4]}]}' % (b" " * (1 << 17))


class Full(NamedTuple):
    """A server whose pipelines refuse everything, and what they were asked."""

    server: RunningServer
    asked: list[Arrival]

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with Wire(self.server.host, self.server.port) as wire:
            return wire.request("POST", path, body, named)


@contextlib.contextmanager
def all_full(server: RunningServer) -> Iterator[Full]:
    found = Full(server, [])

    def refuse(_: Pipeline, arrival: Arrival) -> HeadraceError:
        found.asked.append(arrival)
        return DeadlineInfeasible("swift", 0.3, 0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "is_pressed", True)
        patch.setattr(Pipeline, "refusal", refuse)
        patch.setattr(server.server.desk, "errors", ErrorWriter(503, lambda: 0.5))
        yield found


def serve_swift(
    folder: Path, profiles: Path, max_loop_lag_s: float
) -> contextlib.AbstractContextManager[RunningServer]:
    (folder / "swift.fake").write_text("{}")
    return run_server([folder], profile_dir=profiles, instances=1, max_loop_lag_s=max_loop_lag_s)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    """A server that is never behind, however busy the machine is."""
    with serve_swift(tmp_path_factory.mktemp("swift"), profiles, 3600.0) as running:
        yield running


@pytest.fixture(scope="module")
def touchy(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    """A server that is behind before anybody else would say so."""
    with serve_swift(tmp_path_factory.mktemp("touchy"), profiles, 0.01) as running:
        yield running


@pytest.fixture
def full(swift: RunningServer) -> Iterator[Full]:
    with all_full(swift) as found:
        yield found


WAYS = {
    "JSON": (PATH, dumps(ROW), {}),
    "JSON whose data is none": (PATH, dumps(NO_DATA), {}),
    "binary": (PATH, *binary([("x", "FP32", [1, 4], bytes(16))])),
    "binary whose data is too short": (PATH, *binary([("x", "FP32", [9, 4], bytes(16))])),
    "raw": (PATH, bytes(16), {"Inference-Header-Content-Length": "0"}),
    "large JSON": (PATH, LARGE, {}),
    "compressed": (PATH, gzip.compress(dumps(ROW)), {"Content-Encoding": "gzip"}),
    "what is not even compressed": (PATH, dumps(ROW), {"Content-Encoding": "gzip"}),
    "a skill's items": (SKILL, b'{"x":[1,2,3,4]}', {}),
    "a skill's items that are none": (SKILL, b"{", {}),
}


@pytest.mark.parametrize("request_", WAYS.values(), ids=WAYS)
def test_every_way_in_gets_the_same_refusal_and_no_data_is_looked_at(full: Full, request_) -> None:
    path, body, headers = request_
    answers = [full.post(prefix + path, body, **headers) for prefix in ("", f"http://{full.server.address}")]
    with Wire(full.server.host, full.server.port) as wire:
        answers += [wire.request("POST", path, body, headers) for _ in range(3)]
    for answer in answers:
        assert (answer.status, answer.json()["code"]) == (503, "deadline_infeasible")
        assert answer.headers["x-reject-reason"] == "deadline-infeasible"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["retry_after_ms"] == 225
        assert answer.raw == answers[0].raw
    assert len(full.asked) == len(answers)


def test_what_cannot_be_a_request_is_told_so_all_the_same(full: Full) -> None:
    assert full.post(PATH, dumps({"inputs": [tensor("z", "FP32", [1, 4], [1, 2, 3, 4])]})).status == 400
    assert full.post("/v2/models/nobody/infer", dumps(ROW)).status == 404
    assert full.asked == []


def test_nobody_starts_a_transcoder_for_what_is_refused(full: Full) -> None:
    assert full.post(PATH, LARGE).status == 503
    assert full.server.server._transcoding is None


def test_a_request_is_asked_for_with_what_its_envelope_and_headers_say(full: Full) -> None:
    content = {"inputs": [tensor("x", "FP32", [3, 4], [0] * 12)]}
    full.post(PATH, dumps({**content, "parameters": {"timeout": 20_000, "tenant": "acme"}}))
    full.post(PATH, dumps(content), X_Request_Timeout_Seconds="0.5", X_Tenant="beta")
    full.post(PATH, dumps(content))
    full.post(PATH, LARGE, X_Request_Timeout_Seconds="60")
    assert [(each.rows, each.cost, each.nbytes, each.tenant, each.is_asked) for each in full.asked] == [
        (3, 4, 48, "acme", True),
        (3, 4, 48, "beta", True),
        (3, 4, 48, "", False),
        (1, 4, 0, "", True),
    ]
    allowed = [each.deadline - each.arrived for each in full.asked]
    assert allowed == pytest.approx([0.02, 0.5, 5.0, 5.0])
    assert all(each.target == each.deadline for each in full.asked)


def test_refusals_are_counted_as_outcomes(full: Full) -> None:
    def count() -> float:
        with Wire(full.server.host, full.server.port) as wire:
            lines = wire.get("/metrics").body.decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("inference_requests_total") and 'outcome="deadline_infeasible"' in line
        )

    before = count()
    for path, body in ((PATH, dumps(ROW)), (SKILL, b'{"x":[1,2,3,4]}'), (PATH, LARGE)):
        full.post(path, body)
    assert count() == before + 3


def test_the_rest_of_the_server_answers_while_models_are_full(full: Full) -> None:
    with Wire(full.server.host, full.server.port) as wire:
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics", "/v2/models/swift", SKILL):
            assert wire.get(path).status == 200
        assert wire.post("/v2/repository/index").status == 200


def test_the_status_of_refusals_is_the_operator_s(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "swift.fake").write_text("{}")
    settings = {"refuse_with": 429, "max_received_bytes": 1000}
    with run_server([tmp_path], profile_dir=profiles, **settings) as server, all_full(server) as full:
        full.server.server.desk.errors = ErrorWriter(server.server.settings.refuse_with)
        assert full.post(PATH, dumps(ROW)).status == 429
        for path in (PATH, "/v2/logging"):
            bodies_full = full.post(path, bytes(2000))
            assert (bodies_full.status, bodies_full.json()["code"]) == (429, "bodies_full")
        assert full.post("/v2/models/nobody/infer", dumps(ROW)).status == 404


@contextlib.contextmanager
def a_busy_loop(server: RunningServer) -> Iterator[None]:
    """The server's loop has more to do than it can: something keeps each of its turns late."""
    loop, is_over = server.server.desk.lag._loop, threading.Event()

    def work() -> None:
        time.sleep(0.03)
        if not is_over.is_set():
            loop.call_soon(work)

    loop.call_soon_threadsafe(work)
    try:
        yield
    finally:
        is_over.set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, dumps(ROW)),
        (PATH, b"what is never parsed"),
        ("http://headrace" + PATH, dumps(ROW)),
        (SKILL, b'{"x":[1,2,3,4]}'),
    ],
    ids=["lean", "unread", "ASGI", "skill"],
)
def test_a_gateway_that_is_behind_refuses_unseen_what_would_have_to_wait_until_it_is_not(
    touchy: RunningServer, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "is_hungry", False)  # as if there were a queue
    with Wire(touchy.host, touchy.port) as wire:

        def is_refused() -> bool:
            answer = wire.request("POST", path, body)
            return answer.status == 503 and answer.json()["code"] == "gateway_busy"

        with a_busy_loop(touchy):
            eventually(is_refused, "it is refused")
            answer = wire.request("POST", path, body)
            assert answer.headers["x-reject-reason"] == "gateway-busy"
            assert "behind" in answer.error
            for other in ("/v2/health/live", "/v2/health/ready", "/metrics"):
                assert wire.get(other).status == 200
            assert wire.post("/v2/repository/index").status == 200
        eventually(lambda: not is_refused(), "it is looked at again")


def test_a_gateway_that_is_behind_goes_on_feeding_models_that_would_have_nothing_to_do(
    touchy: RunningServer,
) -> None:
    lag = touchy.server.desk.lag
    with Wire(touchy.host, touchy.port) as wire, a_busy_loop(touchy):

        def is_fed_while_behind() -> bool:
            status = wire.request("POST", PATH, dumps(ROW)).status
            assert status == 200
            return lag._guard.is_behind

        eventually(is_fed_while_behind, "the gateway is behind")
        assert is_fed_while_behind()


SLOW_ROWS = """
import time

import headrace


class Model:
    inputs = [headrace.Tensor("x", "FP32", [-1, 4])]
    outputs = [headrace.Tensor("y", "FP32", [-1])]
    batched = True

    def infer(self, inputs):
        time.sleep(0.01 * len(inputs["x"]))
        return {"y": inputs["x"].sum(axis=1)}
"""


def test_items_that_wait_for_nobody_but_each_other_are_all_answered_whatever_is_promised(
    tmp_path: Path, profiles: Path
) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "model.py").write_text(SLOW_ROWS)
    (folder / "skill.yaml").write_text(
        "objective: {latency_p99_ms: 50}\nshare: {priorities: {1: 0.5, 2: null}}\n"
    )
    content = {"items": [{"x": [1, 2, 3, 4]}] * 24}
    with (
        run_server([tmp_path], profile_dir=profiles, max_loop_lag_s=3600.0) as server,
        Wire(server.host, server.port) as wire,
    ):
        for _ in range(3):
            answer = wire.post("/v1/skills/slow", content)
            assert answer.status == 200
            assert answer.json()["answers"] == [{"y": 10.0}] * 24
        asked: list[Arrival] = []
        with pytest.MonkeyPatch.context() as patch:

            def refuse(_: Pipeline, arrival: Arrival) -> HeadraceError:
                asked.append(arrival)
                return DeadlineInfeasible("slow", 0.3, 0.1)

            patch.setattr(Pipeline, "is_pressed", False)
            patch.setattr(Pipeline, "refusal", refuse)
            refused = wire.post("/v1/skills/slow", content, {"X-Request-Priority": "1"})
        assert (refused.status, refused.json()["code"]) == (503, "deadline_infeasible")
        assert [(each.rows, each.level) for each in asked] == [(24, 1)]
        assert asked[0].target - asked[0].arrived == pytest.approx(0.05)
